"""The tasks in which this process works on the records that it owns: one for each."""

import asyncio
from collections.abc import Awaitable, KeysView

from prometheus_client import Counter

from services.common.records.records import Records
from services.common.records.stored_record import RecordUnreadable
from services.common.redis.client import REDIS_PY_UNAVAILABLE
from services.common.redis.keys import Topic
from services.common.service.call_accounting import attributed_to
from services.common.service.logging import get_logger
from services.common.service.settings import LAST_STEPS_SECONDS

log = get_logger(__name__)

WORK_FAILURES = Counter(
    "bindery_work_failures_total", "Work on records that ended with an unexpected error, by kind of record", ["kind"]
)


class Work:
    """The tasks by record. What one ends with is noted in its record, so that its adoption counts as one in vain."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._tasks: dict[Topic, asyncio.Task[None]] = {}

    @property
    def topics(self) -> KeysView[Topic]:
        """The records that have a task."""
        return self._tasks.keys()

    def begin(self, topic: Topic, work: Awaitable[None]) -> None:
        """Run `work` as the task of a record."""
        if earlier := self._tasks.get(topic):
            earlier.cancel()  # it lost the record, and this process has adopted that
        with attributed_to("work"):
            task = asyncio.create_task(self._run(topic, work), name=topic.name)
        self._tasks[topic] = task
        task.add_done_callback(lambda done: self._on_done(topic, done))

    async def _run(self, topic: Topic, work: Awaitable[None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except REDIS_PY_UNAVAILABLE as error:  # for longer than a write waits: it is taken over when Redis is back
            log.warning("redis_away", doing="work", noun=topic.name, error=str(error))
        except Exception as error:
            if isinstance(error, RecordUnreadable):
                log.warning("record_unreadable", noun=topic.name, reason=error.reason)
            else:
                WORK_FAILURES.labels(topic.kind).inc()
                log.exception("work_ended", noun=topic.name, error=str(error))
            await self._records.orphans.note_failure(topic, error)

    def _on_done(self, topic: Topic, task: asyncio.Task[None]) -> None:
        if self._tasks.get(topic) is task:
            del self._tasks[topic]
            self._records.untrack(topic)

    def cancel(self, topic: Topic) -> None:
        """Stop the work on a record, if there is any."""
        if topic in self._tasks:
            self._tasks[topic].cancel()

    async def cancel_all(self) -> None:
        """Stop all work, and wait until it has ended or the time for that is over."""
        # Not `cancel_and_wait`: a second cancel would cut short a write that waits for its reply.
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=self._records.settle_seconds + LAST_STEPS_SECONDS)
