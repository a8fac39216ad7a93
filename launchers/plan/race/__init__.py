"""`race:` of a sweep file: which settings train on from a step. Pure."""
