"""The sweep's folder, the only record of what happened: ledger, submissions, attempts, lock, copy of the code."""
