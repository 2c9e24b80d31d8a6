"""The dispatch of admitted builds to workers, and all that arq does here: it carries jobs from admission to them.

Admission decides which builds get a slot, records and leases decide which worker owns a build, and the executor keeps
the build running. In between, arq's queue tells the workers that a build waits for an owner:

1. Admission enqueues a job `<prefix>:<build id>.<epoch>`. arq ignores an id that it has already, so this is repeated
   each second, for every build that has a slot and no owner.
2. Each worker polls the queue. The first one with a free slot marks the job as in progress and calls `supervise`,
   which claims the build's record under that epoch. Then the job has ended, and arq removes it: it lives for
   milliseconds, and the build goes on as work of the process that owns it.
3. When a worker dies, the sweep releases its builds and raises their epochs: each gets a new job with a new id.
4. A job that nobody claims within `CLAIM_GRACE_SECONDS` (all workers are full, or the one that began it has stopped)
   is replaced by one of the next epoch (`requeue.lua`). One that has become pointless is dropped (`drop_stale`).

arq's retries, results, timeouts, schedules and pickles are not used.
"""

import json
import math
from datetime import UTC, datetime

from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix

from services.builder.queue.jobs import FIRST_EPOCH, SUPERVISE, job_id, open_queue, parse_epoch, parse_job_id
from services.common.context import ProcessContext
from services.common.models import RECORD_VERSION
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Kind, Topic
from services.common.redis.scripts import Scripts
from services.common.redis.wrong_type import read_fields
from services.common.service.clock import clock
from services.common.service.each import for_each
from services.common.service.logging import get_logger

log = get_logger(__name__)

CLAIM_GRACE_SECONDS = 5.0
"""How long a job waits for its claim: a build's first one for a free slot, any one for the worker that began it."""
SCORED_EARLIER_SECONDS = 60.0
"""How long before its time a job is due: a worker takes those alone that are due by its host's clock."""


class Dispatcher:
    """The queue of jobs from admission to the workers. Every step may be repeated."""

    def __init__(self, context: ProcessContext, scripts: Scripts) -> None:
        self._redis = context.redis
        self._keys = context.keys
        self._scripts = scripts
        self._arq = open_queue(context)
        self._queue = context.keys("{queue}:jobs")

    async def offer(self, build_id: str, epoch: int) -> None:
        """Enqueue the job of a build that has no owner, under the next epoch if its last job is left unclaimed.

        It may get its owner meanwhile: then a job that was left is none, and one that is enqueued claims nothing.
        """
        if await self._enqueue(build_id, epoch) or not await self._is_overdue(build_id, epoch):
            return

        record = self._keys.record(Topic(Kind.BUILD, build_id))
        if next_epoch := await self._scripts.run("requeue", [record], [epoch]):
            log.warning("job_left", build_id=build_id, epoch=epoch)
            await self._drop(self._job_id(build_id, epoch))
            await self._enqueue(build_id, next_epoch)

    async def _enqueue(self, build_id: str, epoch: int) -> bool:
        """Enqueue a job; return False if arq has one with its id already."""
        argument = json.dumps({"v": RECORD_VERSION, "build_id": build_id, "epoch": epoch})
        due_at = datetime.fromtimestamp(clock.now() - SCORED_EARLIER_SECONDS, UTC)
        job = await self._arq.enqueue_job(
            SUPERVISE, argument, _job_id=self._job_id(build_id, epoch), _defer_until=due_at
        )
        return job is not None

    async def _is_overdue(self, build_id: str, epoch: int) -> bool:
        """Return whether a job should have been claimed: all workers are full, or the one that began it has stopped."""
        name = self._job_id(build_id, epoch)
        due_ms = await self._redis.zscore(self._queue, name)
        due_seconds = clock.now() - due_ms / 1000 if due_ms is not None else math.inf
        # Enqueued lately: by the release before, which scores a job by its time, or by this one.
        if due_seconds < CLAIM_GRACE_SECONDS or 0 <= due_seconds - SCORED_EARLIER_SECONDS < CLAIM_GRACE_SECONDS:
            return False
        return epoch == FIRST_EPOCH or bool(await self._redis.exists(in_progress_key_prefix + name))

    async def drop_stale(self) -> None:
        """Remove jobs whose build has an owner, another epoch or its end, and names that are not jobs of ours."""
        names = await self._redis.zrange(self._queue, 0, -1)
        await for_each(names, self._drop_if_stale, unavailable=REDIS_UNAVAILABLE)

    async def _drop_if_stale(self, name: bytes) -> None:
        job = parse_job_id(self._keys.prefix, name)
        if job is None:
            log.warning("job_unknown", name=name.decode(errors="replace")[:200])
            await self._redis.zrem(self._queue, name)
            return

        build_id, epoch = job
        record = self._keys.record(Topic(Kind.BUILD, build_id))
        owner, current_epoch, final = await read_fields(self._redis, record, "owner", "epoch", "final")
        if owner != b"" or final == b"1" or parse_epoch(current_epoch or b"") != epoch:
            await self._drop(name.decode())

    async def _drop(self, name: str) -> None:
        prefixes = (job_key_prefix, in_progress_key_prefix, retry_key_prefix)
        async with self._redis.pipeline() as pipe:
            pipe.zrem(self._queue, name)
            pipe.delete(*(prefix + name for prefix in prefixes))
            await pipe.execute()

    def _job_id(self, build_id: str, epoch: int) -> str:
        return job_id(self._keys.prefix, build_id, epoch)
