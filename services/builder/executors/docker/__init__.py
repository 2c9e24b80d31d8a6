"""Builds as containers of one container engine, by its HTTP API. Imported only by who uses it."""
