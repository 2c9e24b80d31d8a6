"""Seats: a set of servers by identity. What is taken is what is reserved, and what the hub lists as ours."""

import asyncio
import json
import time
from typing import Any

from services.common.models import Server
from services.common.redis import Scripts
from services.common.stage import Stage
from services.launcher.settings import LauncherSettings


class Seats:
    """Takes and gives back seats. Taking one twice is taking it once."""

    def __init__(self, stage: Stage, settings: LauncherSettings) -> None:
        self._stage = stage
        self._total = settings.seats_total
        self.scripts = Scripts(stage.redis, "services.launcher.scripts")
        self.freed = asyncio.Event()
        """Set, and another one made, when the queue may have moved: to be taken before a seat is asked for."""
        self._keys = [stage.keys("{seats}:members"), stage.keys("{seats}:waiting")]

    def reservation(self, server: Server) -> tuple[Scripts, str, list[str], list[Any]]:
        """The script call that takes a seat, to be run together with others; see `taken`."""
        kept = json.dumps({"v": 1, "repo": server.repo_url, "cost": 1, "reserved_at": time.time()})
        wake = self._stage.keys.wake("launcher")
        return self.scripts, "reserve", self._keys, [server.server_id, self._total, int(time.time() * 1000), kept, wake]

    async def take(self, server: Server) -> int:
        """0 when the server has a seat, else its place in the queue, from 1."""
        _, name, keys, args = self.reservation(server)
        return self.taken(await self.scripts.run(name, keys, args))

    @staticmethod
    def taken(answer: list[int]) -> int:
        """What a reservation's answer means: 0 for a seat, else the place in the queue."""
        return 0 if int(answer[0]) else int(answer[1])

    def heard(self) -> None:
        """A seat has become free, or the queue has moved."""
        freed, self.freed = self.freed, asyncio.Event()
        freed.set()

    async def give_back(self, server_id: str) -> None:
        """Free the seat or the place in the queue."""
        await self.scripts.run("free", self._keys, [server_id, self._stage.keys.wake("launcher")])

    async def members(self) -> dict[str, float]:
        """Every server that holds a seat, with the time at which it was reserved."""
        raw = await self._stage.redis.hgetall(self._keys[0])
        return {name.decode(): float(json.loads(kept).get("reserved_at", 0)) for name, kept in raw.items()}

    async def waiting(self) -> list[str]:
        """Every server that waits for a seat, the first one first."""
        return [name.decode() for name in await self._stage.redis.zrange(self._keys[1], 0, -1)]

    async def count(self, server_id: str) -> None:
        """Count a server that the hub lists as ours, although no reservation of it is known."""
        kept = json.dumps({"v": 1, "repo": "", "cost": 1, "reserved_at": time.time()})
        await self._stage.redis.hsetnx(self._keys[0], server_id, kept)
