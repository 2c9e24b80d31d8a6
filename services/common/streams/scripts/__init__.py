"""Lua scripts of the streams."""
