"""Lua scripts of the live policy."""
