"""A service with a background task that ends soon after the start: `returns`, `raises`, or hangs in its end as well.

Or the service ends after a signal alone: it `ends_well`, or fails in its end (`fails_in_end`). Or the background task
`raises_when_asked`: once a request is open that lasts until the process is to end.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import httpx
from fastapi import FastAPI, Request

from services.common.service.loops import background_state, background_tasks
from services.common.service.settings import ServiceSettings
from services.common.web import serve as serving
from services.common.web.app import create_service

is_asked = asyncio.Event()


async def ends(how: str) -> None:
    """End after the service has started, unless that is to end well."""
    if how == "ends_well":
        await asyncio.Event().wait()
    if how == "raises_when_asked":
        await is_asked.wait()
    await asyncio.sleep(0.3)
    if how.startswith("raises"):
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


async def until_stopping(request: Request) -> int:
    """Wait until the process is notified of its end, and return the status of `/readyz` then."""
    print("a request is open", flush=True)
    is_asked.set()
    await background_state().stopping.wait()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(request.app), base_url="http://service") as client:
        return (await client.get("/readyz")).status_code


if __name__ == "__main__":
    serving.END_SECONDS = 0.5
    settings = ServiceSettings(service_token="t" * 32, redis_timeout_seconds=0.1)
    app = create_service(settings, name="test", lifespan=lifespan, public=True)
    app.get("/until-stopping")(until_stopping)
    serving.serve(app, settings, service="test", drain_seconds=1)
