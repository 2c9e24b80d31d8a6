"""JupyterHub: the client, patterns of failure, and the budget of retries."""
