"""Launches: their records, the conductor, and everything that a launch has to pass."""
