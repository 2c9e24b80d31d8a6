"""A build without a container engine: a process that turns a repository into an image folder.

It runs in a session of its own and knows no worker. `session` is the program, `steps` has what it does in order, and
`layout` says which file lies where.
"""
