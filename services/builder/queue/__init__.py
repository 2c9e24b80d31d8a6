"""The queue of builds: attempts, admission to free slots, the hand-over to workers, and builds for the API."""
