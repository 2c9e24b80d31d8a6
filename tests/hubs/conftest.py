"""What tests on real hubs share: a real Redis."""

from tests.support.valkey import redis, valkey

__all__ = ["redis", "valkey"]
