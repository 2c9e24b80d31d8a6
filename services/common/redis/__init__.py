"""The connection to Redis: client, keys, key families, users and scripts."""
