"""Durable state in Redis: records with owners, leases, cancel requests and the launch cache."""
