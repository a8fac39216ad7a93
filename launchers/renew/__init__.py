"""The page of the report, drawn again by the job whose runs have ended."""
