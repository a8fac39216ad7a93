"""Everything that talks to SLURM, and the words that it answers with."""
