"""The user's DeepSpeed JSON: which keys there are, and what a run cannot honour."""
