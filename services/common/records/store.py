"""The place in Redis where records are kept: connection, names, scripts, bus and limits."""

from prometheus_client import Counter
from redis.asyncio import Redis

from services.common.redis.keys import Keys
from services.common.redis.scripts import Scripts
from services.common.service.settings import ServiceSettings
from services.common.service.tasks import CANCEL_AGAIN_SECONDS
from services.common.streams.bus import Bus

DROPPED = Counter(
    "bindery_ownership_dropped_total",
    "Entries of the lists of processes, owned records and orphans that stand for nothing, and were dropped",
    ["list"],
)


class RecordStore:
    """The scripts, keys, bus and limits of all records of an installation, owned by this process or not."""

    def __init__(self, redis: Redis, keys: Keys, *, bus: Bus, settings: ServiceSettings) -> None:
        self.redis = redis
        self.keys = keys
        self.bus = bus
        self.scripts = Scripts(redis, "services.common.records.scripts")
        self.ttl_ms = int(settings.record_ttl_seconds * 1000)
        self.max_bytes = settings.stream_max_bytes
        self.patience_seconds = settings.redis_patience_seconds

        self.settle_seconds = settings.settle_seconds
        """How long a cancelled write waits for its reply."""
        self.cancel_again_seconds = self.settle_seconds + CANCEL_AGAIN_SECONDS
        """After which time work that writes records is cancelled again: not before such a write has its reply."""
        self.cancel_within_seconds = settings.cancel_within_seconds
        """After which time work that goes on although it was cancelled is left."""
