"""The parts that all services share: models, settings, connections, records, event streams and the web scaffolding."""
