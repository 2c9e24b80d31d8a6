"""Metrics of the queue, which is one for the whole installation: each process of the API reads them when it is asked.

A process that kept numbers would tell old ones as soon as another process does the work: whoever adds workers by these
metrics asks any process, and asks above all while no worker is there.
"""

import asyncio

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from redis.exceptions import RedisError

from services.builder.queue.builds import Builds
from services.common.redis.client import REDIS_UNAVAILABLE


async def queue_metrics(builds: Builds, *, timeout_seconds: float) -> bytes:
    """Return the metrics of the queue as it is now, in Prometheus's text format.

    Return nothing if Redis does not answer in time, or refuses: no number is no empty queue.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            queue = await builds.queue()
    except (*REDIS_UNAVAILABLE, RedisError):
        return b""

    registry = CollectorRegistry()
    waiting = Gauge("bindery_builds_waiting", "Builds that wait for a slot (the API's processes)", registry=registry)
    running = Gauge("bindery_builds_running", "Builds that have a slot (the API's processes)", registry=registry)
    oldest = Gauge(
        "bindery_builds_oldest_waiting_seconds",
        "How long the oldest waiting build has waited, in seconds (the API's processes)",
        registry=registry,
    )
    waiting.set(queue.depth)
    running.set(queue.running)
    oldest.set(queue.oldest_waiting_seconds or 0.0)
    return generate_latest(registry)
