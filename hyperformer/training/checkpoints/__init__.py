"""Writing checkpoints, finding the newest complete one, and resuming from it."""
