"""The outer edge: hosts, origins, sessions and tokens, checked before a route runs."""
