"""The queue of builds: attempts, admission to free slots, their dispatch to workers, and builds for the API."""
