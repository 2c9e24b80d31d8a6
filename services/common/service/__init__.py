"""What every process has: settings, logs, background tasks and health."""
