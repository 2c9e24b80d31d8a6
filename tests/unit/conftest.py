"""What unit tests share: a real Redis for what is stored there, and the log as services write it."""

from tests.support.logs import logs
from tests.support.valkey import redis, stage, valkey

__all__ = ["logs", "redis", "stage", "valkey"]
