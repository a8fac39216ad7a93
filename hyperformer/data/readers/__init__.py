"""Files of rows, by format: each value and each error with its place."""
