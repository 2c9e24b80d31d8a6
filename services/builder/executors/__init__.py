"""What runs the builds: the executors, and what those that run repo2docker share."""
