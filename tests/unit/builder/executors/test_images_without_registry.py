"""Where nothing is pushed the engine says which images there are, for Jobs of a one-node cluster as for containers."""

import contextlib
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from services.builder.executors.base import Finished
from services.builder.executors.factory import make_executor
from services.builder.images import ExistingImage, ImageLookup
from services.builder.settings import BuilderSettings
from services.common.models import BuildState
from services.common.models.errors import BinderyError
from tests.support.in_process_builder import open_builder
from tests.support.logs import line_of
from tests.support.scripted_executor import ScriptedExecutor, log_batch, supervise
from tests.support.settings import settings_for
from tests.support.valkey import Valkey


@contextlib.asynccontextmanager
async def engine(socket: Path, images: set[str]) -> AsyncIterator[None]:
    """An engine that has images, as far as who asks for them can tell."""

    async def inspect(request: web.Request) -> web.Response:
        if request.match_info["name"] in images:
            return web.json_response({"RepoDigests": []})
        return web.json_response({"message": "no such image"}, status=404)

    async def pong(_request: web.Request) -> web.Response:
        return web.Response(text="OK")

    app = web.Application()
    app.router.add_get("/images/{name:.+}/json", inspect)
    app.router.add_get("/_ping", pong)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(socket)).start()
        yield
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def images_of(executor: str) -> AsyncIterator[ImageLookup]:
    settings = {"executor": executor, "build_push": False, "build_memory_limit": "1500Mi"}
    build_executor, images = make_executor(settings_for(BuilderSettings, settings))
    try:
        yield images
    finally:
        await images.aclose()
        await build_executor.aclose()


@pytest.mark.parametrize("executor", ["docker", "kubernetes"])
async def test_an_image_that_was_not_pushed_is_found_in_the_engine_and_missed_when_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: io.StringIO, executor: str
) -> None:
    socket = tmp_path / "engine.sock"
    there = {"bindery/repo:a"}
    monkeypatch.setenv("BINDERY_DOCKER_HOST", f"unix://{socket}")
    async with images_of(executor) as images:
        async with engine(socket, there):
            assert await images.find("bindery/repo:a") == ExistingImage(None)
            assert await images.health_problem() is None
            there.clear()
            assert await images.find("bindery/repo:a") is None
        with pytest.raises(BinderyError) as raised:
            await images.find("bindery/repo:a")
        assert raised.value.detail == "The container engine, which has the images, does not answer."
        assert str(socket) in line_of(logs, "engine_away")["engine"], "the operator reads which"
        assert raised.value.code == "registry_unavailable", "to guess that there is none would build everything"
        assert f"at unix://{socket}, which has the images, does not answer" in (await images.health_problem() or "")


@pytest.mark.usefixtures("redis")
async def test_a_job_that_ended_well_has_built_what_the_engine_has(
    valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = tmp_path / "engine.sock"
    there = set[str]()
    monkeypatch.setenv("BINDERY_DOCKER_HOST", f"unix://{socket}")

    class Building(ScriptedExecutor):
        """Jobs, the images of which the engine keeps."""

        async def find(self, image: str) -> ExistingImage | None:
            return await images.find(image)

    async with engine(socket, there), images_of("kubernetes") as images, open_builder(valkey, tmp_path) as builder:
        scripted = Building([log_batch("one"), lambda: there.add("bindery/repo:a"), Finished(ok=True)])
        build, _ = await supervise(builder, scripted)
    assert (build.state, build.digest) == (BuildState.BUILT, None)


def test_an_engine_that_goes_with_the_pod_keeps_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_KUBERNETES_DOCKER_HOST", "")
    with pytest.raises(ValueError, match=r"BINDERY_KUBERNETES_DOCKER_HOST is empty: .* Name the node's engine there"):
        make_executor(settings_for(BuilderSettings, {"executor": "kubernetes", "build_push": False}))
