"""A build without a container engine: a session of its own that turns a repository into an image folder.

It knows no worker. `session` is what runs; `steps` is what it does, in order; `layout` is where everything lies.
"""
