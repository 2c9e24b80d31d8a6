"""Event streams to clients: the launch stream, its formats, and the schedule of sends."""
