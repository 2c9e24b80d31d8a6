"""One start of a server, from its seat to its ready event."""
