"""Calls of another service that is away, or whose own needs are."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.common.models.problem import PROBLEM_MEDIA_TYPE
from services.gateway.backends import Backends
from services.gateway.settings import GatewaySettings
from tests.support.in_process_builder import request_for
from tests.support.settings import settings_for

BUILT = {
    "build_id": None, "image": "x:a", "state": "built", "repo_url": "https://example.org/r", "ref": "a",
    "created_at": 1,
}  # fmt: skip


class Builder:
    """Answers `POST /builds` with these errors first, and then with an image."""

    def __init__(self, *errors: BinderyError) -> None:
        self.errors = list(errors)

    async def answer(self, _request: web.Request) -> web.Response:
        if not self.errors:
            return web.json_response(BUILT)
        problem = self.errors.pop(0).problem
        return web.Response(status=problem.status, text=problem.model_dump_json(), content_type=PROBLEM_MEDIA_TYPE)


async def ask(builder: Builder, *, seconds: float = 10.0) -> tuple[str, list[str]]:
    """Ask for a build; what came of it, and what was said meanwhile."""
    app = web.Application()
    app.router.add_post("/builds", builder.answer)
    details: list[str] = []

    async def on_unavailable(error: BinderyError) -> None:
        details.append(error.detail)

    async with opened(app, seconds) as backends:
        try:
            return (await backends.build(request_for("repo", "a"), on_unavailable)).state, details
        except BinderyError as error:
            return error.code, details


@contextlib.asynccontextmanager
async def opened(app: web.Application, seconds: float) -> AsyncIterator[Backends]:
    async with TestServer(app) as server:
        settings = settings_for(
            GatewaySettings,
            {name: str(server.make_url("/")) for name in ("builder_url", "launcher_url")}
            | {"stage_patience_seconds": seconds},
        )
        backends = Backends(settings)
        try:
            yield backends
        finally:
            await backends.aclose()


@pytest.mark.parametrize("code", ["registry_unavailable", "executor_unavailable", "redis_unavailable"])
async def test_what_a_build_needs_is_waited_for_and_that_is_said_once(code: ErrorCode) -> None:
    away = BinderyError(code, "It does not answer.")
    assert await ask(Builder(away, away)) == ("built", ["It does not answer."])


async def test_a_service_that_stays_unavailable_is_the_error_in_the_end() -> None:
    away = BinderyError("registry_unavailable", "It does not answer.")
    assert await ask(Builder(*[away] * 50), seconds=0.5) == ("registry_unavailable", ["It does not answer."])


async def test_any_other_error_is_not_asked_about_again() -> None:
    builder = Builder(BinderyError("build_queue_full", "1000 builds are already waiting."), BinderyError("internal"))
    assert await ask(builder) == ("build_queue_full", [])
    assert len(builder.errors) == 1


async def test_a_launch_that_ended_without_its_server_has_it_stopped_even_if_it_is_ready() -> None:
    app = web.Application()
    queries = []

    async def stop(request: web.Request) -> web.Response:
        queries.append(dict(request.query))
        return web.Response(status=202)

    app.router.add_delete("/servers", stop)
    async with opened(app, 10.0) as backends:
        await backends.stop_server("ref", "https://example.org/r", 0, launch_epoch=3)
    query = {"launch_ref": "ref", "repo_url": "https://example.org/r", "attempt": "0"}
    assert queries == [query | {"even_ready": "true", "launch_epoch": "3"}]
