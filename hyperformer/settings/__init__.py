"""The settings of a run: their meaning, checks, files and signature. Imports no torch."""
