"""Code that runs inside JupyterHub: its configuration, and the spawners of processes, containers and pods."""
