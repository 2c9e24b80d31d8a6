"""The users of Redis, one per service: `users.acl` has the rights of each, `python -m deploy.redis` fills it in."""
