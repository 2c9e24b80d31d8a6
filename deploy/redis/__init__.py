"""The users of Redis, one per service: `users.acl` says what each may do, `python -m deploy.redis` fills it in."""
