"""The launcher: the one place that speaks JupyterHub's REST API."""
