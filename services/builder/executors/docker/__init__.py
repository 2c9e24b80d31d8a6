"""Builds as containers of one container engine, through its HTTP API. Imported only if this executor is used."""
