"""The answers that a run keeps, and what follows from them: metrics, classes, GLUE's files. Imports no torch."""
