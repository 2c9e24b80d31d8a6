"""Event streams in Redis: the bus, readers, topic streams, stored logs and queue positions."""
