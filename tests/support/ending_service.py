"""A service with a background task that ends soon after the start: `returns`, `raises`, or hangs in its end as well.

Or the service ends after a signal alone: it `ends_well`, or fails in its end (`fails_in_end`).
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from fastapi import FastAPI

from services.common.service.loops import background_tasks
from services.common.service.settings import ServiceSettings
from services.common.web import serve as serving
from services.common.web.app import create_service


async def ends(how: str) -> None:
    """End after the service has started, unless that is to end well."""
    if how == "ends_well":
        await asyncio.Event().wait()
    await asyncio.sleep(0.3)
    if how == "raises":
        raise ValueError("nobody foresaw this")


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Run the background task."""
    if sys.argv[1] == "fails_in_end":
        yield
        raise ValueError("nobody foresaw this")

    async with background_tasks(ends(sys.argv[1])):
        yield
    if sys.argv[1] == "hangs":
        await asyncio.Event().wait()


if __name__ == "__main__":
    serving.END_SECONDS = 0.5
    settings = ServiceSettings(service_token="t" * 32, redis_timeout_seconds=0.1)
    serving.serve(create_service(settings, name="test", lifespan=lifespan), settings, service="test", drain_seconds=1)
