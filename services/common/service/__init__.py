"""The equipment of every process: settings, logs, background tasks and health."""
