"""arq's part of a builder worker: which of the jobs that have a slot somewhere are taken by this process."""

from typing import Any

from arq.worker import Worker

from services.builder.queue.jobs import build_of, deserialize, is_fresh, open_queue, serialize
from services.common.context import ProcessContext


class SlotWorker(Worker):  # type: ignore[misc]  # arq is read as untyped
    """Takes a fresh job only while one of its `slots` is free; one that was offered before, always.

    Admission gives no more slots than the living workers have, so a fresh job that is left here is left to a worker
    with room; where that one has just died, the job is soon offered again (`Admission`), and is fresh no more. At its
    own `max_jobs` arq reads nothing, so nothing could be adopted.
    """

    def __init__(self, functions: Any, context: ProcessContext, *, slots: int, ended: set[str], **options: Any) -> None:
        """`ended` has the ids of jobs whose build has given its slot back; those that are over are taken out."""
        queue = open_queue(context)
        super().__init__(
            functions,
            queue_name=queue.default_queue_name,
            redis_pool=queue,
            job_serializer=serialize,
            job_deserializer=deserialize,
            **options,
        )
        self._prefix, self._slots, self._ended = context.keys.prefix, slots, ended

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Start those of the queue's jobs that are for this worker."""
        self._ended.intersection_update(self.tasks)
        for job_id in job_ids:
            if build_of(self._prefix, job_id) is None:
                continue  # no job of this installation's: the sweep takes it out
            if not is_fresh(job_id.decode()) or self._has_room():
                await super().start_jobs([job_id])

    def _has_room(self) -> bool:
        taken = sum(not task.done() and name not in self._ended for name, task in self.tasks.items())
        return taken < self._slots
