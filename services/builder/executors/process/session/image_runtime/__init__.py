"""How the programs of an image run: its environment and repository at their places, and its variables.

The builder runs postBuild by it, and copies it into each image, from which a hub starts servers: an image knows how it
is to be run, whatever release the hub has. So it imports the standard library alone.
"""
