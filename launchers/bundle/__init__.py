"""One archive of a sweep for reviewers: made, verified, and a run of it trained again."""
