"""`select:` of a sweep file: which setting the report chooses, on validation."""
