"""Bindery: from a link to a running Jupyter. The command line (`cli`) and the Python client (`client`)."""
