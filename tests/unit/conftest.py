"""What unit tests share: a real Redis for what is stored there, and the log as services write it."""

from tests.support.logs import logs
from tests.support.valkey import context, redis, valkey

__all__ = ["context", "logs", "redis", "valkey"]
