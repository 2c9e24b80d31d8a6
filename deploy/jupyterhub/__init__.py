"""What runs inside JupyterHub: its configuration, the spawner mixin and the spawner of process images."""
