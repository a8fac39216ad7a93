"""From a sweep file to a plan: runs with their settings and resources, as plain frozen data."""
