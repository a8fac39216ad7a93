"""Answers that are labels of the task: generated within their tree of prefixes, or chosen by their probability."""
