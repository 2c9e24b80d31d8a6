"""Lua: what must happen in one step in Redis."""
