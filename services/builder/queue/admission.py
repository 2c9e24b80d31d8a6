"""Admission: one builder process, the holder of the sweep lease, gives slots to waiting builds."""

import asyncio

from services.builder.queue.attempts import Attempts, build_id_of, build_topic
from services.builder.queue.builds import Builds
from services.builder.queue.dispatch import Dispatcher
from services.builder.queue.jobs import parse_epoch
from services.builder.settings import BuilderSettings
from services.common.context import ProcessContext
from services.common.records.leases import ServiceMember
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.scripts import ScriptArg
from services.common.redis.wrong_type import read_fields
from services.common.service.clock import clock
from services.common.service.each import for_each
from services.common.service.logging import get_logger
from services.common.service.loops import run_forever
from services.common.service.tasks import sleep_unless_cancelled

log = get_logger(__name__)


class Admission:
    """The movement of builds from the queue to the workers. Every step may be repeated, and is, each second."""

    def __init__(
        self,
        *,
        context: ProcessContext,
        settings: BuilderSettings,
        attempts: Attempts,
        builds: Builds,
        dispatcher: Dispatcher,
    ) -> None:
        self._settings = settings
        self._attempts = attempts
        self._builds = builds
        self._dispatcher = dispatcher
        self._redis = context.redis
        self._keys = context.keys
        self._queue_changed = asyncio.Event()

    # When

    async def sweep(self) -> None:
        """Do one round: admit, dispatch builds without an owner, stop abandoned builds. All of it is quick.

        `Cleanup` does what takes longer. A step that fails keeps no other from its work; its error is raised at the
        end, so that the loop which sweeps counts it.
        """
        steps = {"admit": self.admit, "offer": self._offer_all, "stop_abandoned": self._stop_abandoned}

        async def sweep_step(name: str) -> None:
            await steps[name]()

        await for_each(steps, sweep_step, unavailable=REDIS_UNAVAILABLE)

    def on_message(self, message: bytes) -> None:
        """Note a message on the builder's channel which says that a build was queued, or that a slot became free."""
        if message in {b"queued", b"slot"}:
            self._queue_changed.set()

    async def admit_on_change(self, member: ServiceMember) -> None:
        """Admit as soon as the queue changes, while `member` is the sweeper; until cancelled.

        A message that is missed costs no more than the time to the next sweep.
        """

        async def wait_for_change() -> None:
            await sleep_unless_cancelled(self._settings.job_poll_seconds)
            await self._queue_changed.wait()

        async def admit_if_sweeper() -> None:
            self._queue_changed.clear()
            if member.is_sweeper:
                await self.admit()

        await run_forever(admit_if_sweeper, name="admission", wait=wait_for_change, unavailable=REDIS_UNAVAILABLE)

    async def health_problem(self) -> str | None:
        """Return a sentence for health if no worker is alive, as then nothing is built."""
        workers = [raw.decode() for raw in await self._redis.hkeys(self._keys("slots"))]
        is_alive = workers and await self._redis.exists(*(self._keys.alive(worker) for worker in workers))
        return None if is_alive else "no worker is alive"

    # From the queue to a worker

    async def admit(self) -> None:
        """Give the free slots to the first builds in the queue, and hand these over to workers."""
        names = ("waiting", "running", "repos", "version")
        queue_keys = [self._keys("{queue}:" + name) for name in names]
        keys = [*queue_keys, self._keys("slots"), self._keys("{queue}:limits"), self._keys.orphans("builder")]
        args: list[ScriptArg] = [self._settings.build_capacity, self._settings.build_repo_cap, self._keys.prefix]
        admitted = await self._attempts.scripts.run("admit", keys, args)

        for build_id in admitted:
            log.info("build_admitted", build_id=build_id.decode(errors="replace"))
        await for_each(admitted, self._offer, unavailable=REDIS_UNAVAILABLE)

    async def _offer_all(self) -> None:
        """Offer every build that has a slot and no owner to the workers."""
        running = await self._redis.hkeys(self._keys("{queue}:running"))
        await for_each(running, self._offer, unavailable=REDIS_UNAVAILABLE)

    async def _offer(self, name: bytes) -> None:
        """Offer a build that has a slot to the workers, if it has no owner; free its slot if it has ended."""
        build_id = build_id_of(name)
        if build_id is None:
            await self._redis.hdel(self._keys("{queue}:running"), name)
            return

        record = self._keys.record(build_topic(build_id))
        owner, epoch, final = await read_fields(self._redis, record, "owner", "epoch", "final")

        if final == b"1" or epoch is None:
            await self.done(build_id)
        elif owner == b"":
            number = parse_epoch(epoch) or await self._attempts.scripts.run("requeue", [record], [epoch])
            if number:
                await self._dispatcher.offer(build_id, number)

    # The end of a build

    async def done(self, build_id: str) -> None:
        """Free the slot of a build that has ended."""
        names = ("waiting", "repos", "version", "abandoned")
        waiting, repos, version, abandoned = (self._keys("{queue}:" + name) for name in names)
        running = self._keys("{queue}:running")
        unstored = self._keys("{queue}:unstored")
        keys = [running, self._keys.waiters(build_id), unstored, waiting, repos, version, abandoned]
        await self._attempts.scripts.run("done", keys, [build_id, self._keys.wake("builder")])

    async def _stop_abandoned(self) -> None:
        """Cancel builds that no launch has waited for since the end of their grace."""
        now_ms = int(clock.now() * 1000)
        abandoned = await self._redis.zrangebyscore(self._keys("{queue}:abandoned"), "-inf", now_ms)
        await for_each(abandoned, self._stop_if_abandoned, unavailable=REDIS_UNAVAILABLE)

    async def _stop_if_abandoned(self, name: bytes) -> None:
        if build_id := build_id_of(name):
            await self._builds.cancel_if_abandoned(build_id)
        else:
            await self._redis.zrem(self._keys("{queue}:abandoned"), name)
