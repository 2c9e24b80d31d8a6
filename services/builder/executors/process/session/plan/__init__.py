"""What is built from a checkout: its files, read as repo2docker reads them, become a `BuildPlan`.

`reading.read` is the story. Nothing here writes into a checkout, asks a network or runs a program.
"""
