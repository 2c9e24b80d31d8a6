"""An executor that does what a test says, and builds supervised with it on a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence

from services.builder.executors.base import Attempt, Batch, Execution, Finished, Line
from services.builder.images import ExistingImage
from services.builder.queue.attempts import build_topic
from services.builder.worker.supervision import Supervision
from services.common.models import Build
from services.common.models.errors import BinderyError
from services.common.streams.log_store import stream_entries
from tests.support.in_process_builder import Builder

Step = Batch | Finished | Exception | Callable[[], object] | float | None
"""What an execution does next: tell, fail, call something of the test's, take so many seconds; None: nothing, ever."""


class ScriptedExecutor:
    """An executor whose executions do what a test says, run by run, and the place where their images are.

    Each build does the same. One that is followed again goes on with what is left of its run.
    """

    def __init__(self, *runs: Iterable[Step]) -> None:
        self._runs = runs
        self._remaining: dict[str, Iterator[Step]] = {}
        self.follow_calls: list[tuple[int, str]] = []
        self.stops = 0
        self.removals: list[str] = []
        self.may_remove = asyncio.Event()
        self.may_remove.set()
        self.lookups: list[ExistingImage | BinderyError | None] = [None]

    async def prepare(self) -> None:
        pass

    async def ensure(self, attempt: Attempt) -> None:
        """Do nothing: every run is there already."""

    async def follow(self, attempt: Attempt, position: str) -> AsyncIterator[Batch | Finished]:
        self.follow_calls.append((attempt.run, position))
        for step in self._remaining.setdefault(attempt.name, iter(self._runs[attempt.run - 1])):
            match step:
                case None:
                    await asyncio.Event().wait()
                case Exception() as error:
                    raise error
                case Batch() | Finished():
                    yield step
                case float() as seconds:
                    await asyncio.sleep(seconds)
                case call:
                    result = call()
                    if isinstance(result, Awaitable):
                        await result

    async def stop(self, attempt: Attempt) -> None:
        self.stops += 1

    async def list(self, image_key: str = "") -> Sequence[Execution]:
        return []

    async def remove(self, build_id: str) -> None:
        await self.may_remove.wait()
        self.removals.append(build_id)

    async def aclose(self) -> None:
        """Nothing is open."""

    async def health_problem(self) -> str | None:
        return None

    async def find(self, image: str) -> ExistingImage | None:
        image_or_error = self.lookups.pop(0) if len(self.lookups) > 1 else self.lookups[0]
        if isinstance(image_or_error, BinderyError):
            raise image_or_error
        return image_or_error


def log_batch(*messages: str, position: str = "") -> Batch:
    """Return a batch of log lines."""
    return Batch(tuple(Line("building", f"{message}\n") for message in messages), position or messages[-1])


async def supervise(
    builder: Builder, scripted: ScriptedExecutor, *, cancelled: asyncio.Event | None = None, seconds: float = 20
) -> tuple[Build, list[tuple[str, str]]]:
    """See one build through; how it ended, and what its followers were told."""
    await builder.offer_slots("w1", 1)
    build = await builder.request_build("repo")
    await builder.admit()
    topic = build_topic(build.build_id or "")
    adoption = await builder.context.records.adopt("builder", "w1", topic=topic, epoch=1)
    assert adoption
    record, stored = adoption
    supervision = Supervision(
        context=builder.context, settings=builder.settings, executor=scripted, images=scripted, record=record,
        build=stored.model(Build), stored=stored, cancelled=cancelled or asyncio.Event(),
    )  # fmt: skip
    async with asyncio.timeout(seconds):
        assert await supervision.run()
    entries = await stream_entries(builder.context.redis, builder.context.keys, topic)
    messages = [(str(event["phase"]), str(event.get("message", ""))) for entry in entries for event in entry.events]
    await builder.admission.done(build.build_id or "")
    return supervision.build, messages[1:]
