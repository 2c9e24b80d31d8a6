"""Event streams to clients: a launch's stream, its formats, the HTTP responses, and the schedule of their sends."""
