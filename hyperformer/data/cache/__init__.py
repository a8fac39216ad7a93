"""Tokenised rows in files, which later starts map into memory."""
