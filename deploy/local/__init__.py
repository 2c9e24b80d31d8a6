"""The embedded stack: everything that Bindery needs on one machine, started by one command.

`up.py` is the story; `parts.py` says what is started with which environment; `supervisor.py` keeps it running.
"""
