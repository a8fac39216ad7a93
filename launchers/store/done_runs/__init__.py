"""What is kept of runs that are done, and what can go."""
