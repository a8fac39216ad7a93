"""A sweep file -> its runs before they have names: every combination of settings, and the check of each."""
