"""Metrics of the seats, which all launchers share: each process reads them when it is asked."""

import asyncio

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from redis.exceptions import RedisError

from services.common.redis.client import REDIS_UNAVAILABLE
from services.launcher.seats.seats import Seats


async def seat_metrics(seats: Seats, *, timeout_seconds: float) -> bytes:
    """Return the metrics of the seats as they are now, in Prometheus's text format.

    Return nothing if Redis does not answer in time, or refuses, or what it has is damaged: the reaper mends that.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            usage = await seats.usage()
    except (*REDIS_UNAVAILABLE, RedisError, ValueError):
        return b""

    registry = CollectorRegistry()
    taken = Gauge("bindery_seats_taken", "Seats that are taken, in units of quota", registry=registry)
    waiting = Gauge("bindery_seats_waiting", "Launches that wait for a seat", registry=registry)
    taken.set(usage.taken)
    waiting.set(usage.waiting)
    return generate_latest(registry)
