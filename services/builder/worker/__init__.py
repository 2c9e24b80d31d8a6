"""The worker process: supervises the builds that it has been given slots for."""
