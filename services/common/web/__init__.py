"""The HTTP server of every service: application, protocol, authentication and problems."""
