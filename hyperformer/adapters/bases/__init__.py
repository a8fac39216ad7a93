"""The base models: which families of T5 there are, and the published sizes."""
