"""The floor of a cached resolve: a FastAPI application whose one route reads one key of Redis, and sends that.

`python -m tests.load.bare_route SOCKET KEY`, with the address of Redis in BARE_REDIS_URL.
"""

import os
import sys

import uvicorn
from fastapi import FastAPI, Response
from redis.asyncio import Redis

from services.common.models import Spec


def main() -> None:
    socket, key = sys.argv[1:]
    app = FastAPI()
    redis = Redis.from_url(os.environ["BARE_REDIS_URL"])

    @app.post("/resolve")
    async def resolve(_spec: Spec) -> Response:
        return Response(await redis.get(key), media_type="application/json")

    uvicorn.run(app, uds=socket, loop="uvloop", http="httptools", access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
