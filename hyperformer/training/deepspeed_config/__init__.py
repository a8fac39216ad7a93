"""The config that DeepSpeed gets, and how the rows of a step are divided."""
