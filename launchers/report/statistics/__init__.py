"""Intervals over seeds, and tests between the rows of a table."""
