"""The processes of a run: which rank this one is, how they meet, and how long they wait for each other."""
