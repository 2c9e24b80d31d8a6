"""Read last by the hub's configuration. Copy it, change the copy, and name that in .env: BINDERY_HUB_CONFIG_FILE."""
