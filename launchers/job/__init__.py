"""What runs on the node: an attempt at a run, how its end is classified, and what follows."""
