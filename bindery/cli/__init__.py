"""The command line: one file per command, listed in `app.py`."""

from bindery.cli.app import main

__all__ = ["main"]
