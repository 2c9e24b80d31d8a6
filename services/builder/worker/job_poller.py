"""arq's side of a builder worker: which of the offered jobs this process begins."""

import time
from collections.abc import Collection
from typing import Any

from arq.worker import Worker, func

from services.builder.queue.jobs import FIRST_EPOCH, SUPERVISE, deserialize, open_queue, parse_job_id, serialize
from services.common.context import ProcessContext

JOBS_READ_MAX = 10_000
"""Jobs read at each poll: more than can wait for a worker, so that those which this one leaves hide no others."""


class JobPoller(Worker):  # type: ignore[misc]  # arq has no types
    """An arq worker that begins a build's first job only if one of its `slots` is free, and any later one always.

    Admission gives out no more slots than the living workers have, so a first job that is not begun here is left to a
    worker with a free slot. If that worker has just died, the job is soon offered again (`Dispatcher`), and is then a
    later one. arq's own limit `max_jobs` would not do: a job ends when its build has been claimed, and a worker that
    has reached that limit reads nothing, and adopts nothing.

    A later job takes a build over. Those begin at a pace, as after the death of a worker there may be very many; a job
    that is not begun at one poll is read again at the next, so that fresh builds do not wait meanwhile.
    """

    def __init__(
        self, supervise: Any, context: ProcessContext, *, slots: int, supervised: Collection[str], poll_seconds: float
    ) -> None:
        """Create a poller of jobs that are run by `supervise`; `supervised` has the builds that use a slot, as it is.

        A build must be among those before its job ends.
        """
        queue = open_queue(context)
        super().__init__(
            [func(supervise, name=SUPERVISE)],
            queue_name=queue.default_queue_name,
            redis_pool=queue,
            job_serializer=serialize,
            job_deserializer=deserialize,
            handle_signals=False,
            queue_read_limit=JOBS_READ_MAX,
            poll_delay=poll_seconds,
            keep_result=0,
            log_results=False,
        )
        self._prefix = context.keys.prefix
        self._slots = slots
        self._supervised = supervised
        self._adoption_seconds = 1 / context.settings.adoptions_per_second
        self._poll_seconds = poll_seconds
        self._may_adopt_at = 0.0

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Begin those of the queue's jobs that are for this worker."""
        for job_id in job_ids:
            job = parse_job_id(self._prefix, job_id)
            if job is None:
                continue  # not a job of this installation: the clean-up removes it
            _, epoch = job
            if epoch > FIRST_EPOCH:
                await self._adopt(job_id)
            elif self._has_free_slot():
                await super().start_jobs([job_id])

    async def _adopt(self, job_id: bytes) -> None:
        """Begin the job of a build that is taken over, unless it is too early for one more."""
        now = time.monotonic()
        if now < self._may_adopt_at:
            return
        await super().start_jobs([job_id])

        if job_id.decode() in self.tasks:  # else another worker has begun it
            # What was allowed since the last poll, and not used, may be used now.
            self._may_adopt_at = max(self._may_adopt_at, now - self._poll_seconds) + self._adoption_seconds

    def _has_free_slot(self) -> bool:
        jobs = [parse_job_id(self._prefix, name.encode()) for name, task in self.tasks.items() if not task.done()]
        started_builds = {job[0] for job in jobs if job}
        return len(started_builds.union(self._supervised)) < self._slots
