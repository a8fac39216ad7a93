"""From rows of a data set to batches of token ids: tasks, sources, splits, samplers. And metrics of the answers."""
