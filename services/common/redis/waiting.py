"""The start of a process, which waits for Redis without end, and says what it waits for."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.exceptions import ResponseError

from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.health import address_of, problem_sentence
from services.common.service.backoff import Backoff
from services.common.service.logging import get_logger
from services.common.service.loops import background_state
from services.common.service.settings import ServiceSettings

log = get_logger(__name__)

T = TypeVar("T")

LONGEST_WAIT_SECONDS = 2.0


async def wait_for_redis(call: Callable[[], Awaitable[T]], settings: ServiceSettings) -> T:
    """Return the result of `call()`, repeated while Redis is away, or refuses this process's login or a command.

    The wait has no end: a process that would end instead could only be started again, and `ACL LOAD` may mend what
    Redis refuses. Meanwhile health has a sentence for the operator (`start_problem`). The log has it once, and again
    if the reason changes. The call must be safe to repeat.
    """
    background = background_state()
    before = background.start_problem
    backoff = Backoff(first_seconds=0.05, longest_seconds=LONGEST_WAIT_SECONDS)
    waits_for = ""
    while True:
        try:
            result = await call()
        except (*REDIS_UNAVAILABLE, ResponseError) as error:
            problem = problem_sentence(error, address_of(settings))
            if not problem:
                raise
            if problem != waits_for:
                log.warning("start_waits", reason=problem)
            waits_for = background.start_problem = problem
            await backoff.sleep()
        else:
            if waits_for:
                log.info("start_goes_on")
            background.start_problem = before
            return result
