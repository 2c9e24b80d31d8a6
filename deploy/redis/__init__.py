"""Users of Redis, one a service: `users.acl` says what each may do, and `python -m deploy.redis` fills it in."""
