"""Outgoing connections: address policies, the checked client, and calls between services."""
