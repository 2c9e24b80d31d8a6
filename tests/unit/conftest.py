"""What unit tests share: a real Redis for what is stored there."""

from tests.support.valkey import redis, stage, valkey

__all__ = ["redis", "stage", "valkey"]
