"""The keys of a sweep file, a module for each that takes more than a few lines; `select:` and `race:` have rooms."""
