"""Removal of servers that nobody uses."""
