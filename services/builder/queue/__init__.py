"""The queue of builds: attempts, admission to free slots, and the log that each build leaves."""
