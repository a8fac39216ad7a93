"""`init_from`: a run that starts from the trained weights of another."""
