"""Training and evaluating one run: ranks, engine, loop, answers, log."""
