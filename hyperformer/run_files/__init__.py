"""The files of a run, by name: checkpoints, lock, heartbeat, recovery. Imports no torch."""
