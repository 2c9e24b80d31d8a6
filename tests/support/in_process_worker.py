"""Builder workers in the test's process, on a real Redis; their executions do what a test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from services.builder.queue.builds import Builds
from services.builder.worker.worker import BuilderWorker
from services.common.context import service_member
from services.common.records.leases import ServiceMember
from tests.support.in_process_builder import Builder, open_builder
from tests.support.scripted_executor import ScriptedExecutor, Step
from tests.support.valkey import Valkey


class WorkerProcess:
    """One worker process, as far as Redis can tell; its executions do what `scripted` says."""

    def __init__(self, builder: Builder, member: ServiceMember, scripted: ScriptedExecutor) -> None:
        self.builder = builder
        self.scripted = scripted
        self.member = member
        self.process = member.process
        builds = Builds(context=builder.context, settings=builder.settings, attempts=builder.attempts, images=scripted)
        context = builder.service_context(member=member, executor=scripted, images=scripted, builds=builds)
        self.worker = BuilderWorker(context)
        self._jobs: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look for jobs from now on."""
        self._jobs = asyncio.create_task(self.worker.run_arq())

    def is_looking(self) -> bool:
        return self._jobs is not None and not self._jobs.done()

    async def end(self) -> None:
        while self._jobs and not self._jobs.done():  # arq and redis-py swallow a cancel now and then
            self._jobs.cancel()
            await asyncio.wait({self._jobs}, timeout=0.2)

    async def has(self, count: int) -> bool:
        """Return whether it supervises `count` builds."""
        owned = await self.builder.context.redis.scard(self.builder.context.keys.owned(self.process))
        return bool(owned == count)


StartWorker = Callable[..., AbstractAsyncContextManager[WorkerProcess]]


def workers_of(valkey: Valkey, folder: Path) -> StartWorker:
    """Return a function that starts workers, each with its own connections and a lease too long to matter."""

    @contextlib.asynccontextmanager
    async def start(
        *steps: Step, executor: ScriptedExecutor | None = None, **settings: object
    ) -> AsyncIterator[WorkerProcess]:
        async with (
            open_builder(valkey, folder, lease_seconds=60, **settings) as builder,
            service_member(builder.context, "builder", sweeps=False) as member,
        ):
            worker = WorkerProcess(builder, member, executor or ScriptedExecutor(steps))
            await worker.worker.offer_slots()
            try:
                yield worker
            finally:
                await worker.end()

    return start


async def admit_builds(builder: Builder, count: int) -> list[str]:
    """Builds of as many repositories, all with a slot."""
    for number in range(count):
        await builder.request_build(f"repo-{number}", launch_ref="launch")
    build_ids = await builder.admit()
    assert len(build_ids) == count
    return build_ids


async def field(builder: Builder, build_id: str, name: str) -> str:
    record = await builder.attempts.read(build_id)
    assert record
    return record[1].get(name)


async def more_than(count: Callable[[], Awaitable[int]], least: int) -> bool:
    return await count() > least
