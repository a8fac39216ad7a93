"""The base models: which families of T5 there are, loading one, and the published sizes."""
