"""Git on the network: URLs, refs and fetches, with every address checked."""
