"""Bindery on one machine with Docker: what docker-compose.yml mounts, and the command that makes its secrets."""
