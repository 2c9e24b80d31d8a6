"""Repositories as their authors write them, one in each folder: launched through a whole Bindery, and looked at there.

A folder is what a repository holds, with these files that are not committed:

- `verify`: a program that runs in the launched server; exit status 0 means that all is right. It runs in a kernel,
  and in a terminal too if `case.toml` says so. `SERVER` is the number of the server, from 1.
- `verify.cell`: the same as a cell of a notebook; it fails by an exception.
- `error`: for what the process executor refuses: the code of the error, and on each further line words of its text.
  `error.docker` is the same for repo2docker. Who refuses nothing is verified.
- `case.toml`: what a folder can't say (`tests/support/cases.py` has the fields), if there is anything.

In each text, `@PYTHON@` stands for a version of Python that is installed, `@GIT@` for the address of this case's other
repositories, `@INDEX@` for that of its package index, `@CHANNEL@` for that of a conda channel, and `@JUPYTER@` for an
image of the engine that a Dockerfile may begin with.

To add a case, add a folder, and name it in a row of `docs/authors.md`. By hand:

    python -m tests.repositories             # every case, and a table of their outcomes
    python -m tests.repositories -k editable
"""
