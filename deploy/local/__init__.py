"""The embedded stack: everything that Bindery needs on one machine, started by one command.

`up.py` is the whole run from start to end; `plan.py` says what is started, `environments.py` with which environment,
and `supervisor.py` keeps it running.
"""
