"""Lua of the seats."""
