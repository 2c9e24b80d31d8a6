"""arq's side of a builder worker: which of the offered jobs this process starts."""

from typing import Any

from arq.worker import Worker

from services.builder.queue.jobs import deserialize, is_fresh, open_queue, parse_job_id, serialize
from services.common.context import ProcessContext


class SlotWorker(Worker):  # type: ignore[misc]  # arq has no types
    """An arq worker that starts a fresh job only if one of its `slots` is free, and a job offered before always.

    Admission gives out no more slots than the living workers have, so a fresh job that is not started here is left to a
    worker with a free slot. If that worker has just died, the job is soon offered again (`Dispatcher`), and is then not
    fresh. arq's own limit `max_jobs` would not do: a worker that has reached it reads nothing, and adopts nothing.
    """

    def __init__(
        self, functions: Any, context: ProcessContext, *, slots: int, ended_jobs: set[str], **options: Any
    ) -> None:
        """Create a worker. `ended_jobs` are the ids of jobs whose build has freed its slot already.

        Jobs that are over are removed from that set.
        """
        queue = open_queue(context)

        super().__init__(
            functions,
            queue_name=queue.default_queue_name,
            redis_pool=queue,
            job_serializer=serialize,
            job_deserializer=deserialize,
            **options,
        )

        self._prefix = context.keys.prefix
        self._slots = slots
        self._ended_jobs = ended_jobs

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Start those of the queue's jobs that are for this worker."""
        self._ended_jobs.intersection_update(self.tasks)
        for job_id in job_ids:
            if parse_job_id(self._prefix, job_id) is None:
                continue  # not a job of this installation: the sweep removes it
            if not is_fresh(job_id.decode()) or self._has_free_slot():
                await super().start_jobs([job_id])

    def _has_free_slot(self) -> bool:
        used = sum(not task.done() and name not in self._ended_jobs for name, task in self.tasks.items())
        return used < self._slots
