"""The state of each run, why it waits or failed, and its logs."""
