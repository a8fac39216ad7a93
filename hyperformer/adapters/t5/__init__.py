"""What T5 with adapters has beside stock T5: its config, the task that a call names, more position biases."""
