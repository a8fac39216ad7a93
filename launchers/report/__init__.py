"""The results table and its files, from the results of the runs."""
