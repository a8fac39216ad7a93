"""From a plan to started runs: which start, checks before, cost, submission; the queue on one machine; cancel."""
