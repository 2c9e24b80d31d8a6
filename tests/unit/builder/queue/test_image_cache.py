"""What is known of images holds for one image store: a new prefix, registry or executor takes effect at once."""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from services.builder.app import create_app
from services.builder.executors.image_store import image_store_id
from services.builder.images import ExistingImage
from services.builder.queue.builds import Builds
from services.builder.settings import BuilderSettings
from services.common.context import ProcessContext, open_context
from services.common.models import BuildInput, BuildRequest, BuildState, LaunchState, ResolvedRepo, Spec
from services.common.records.launch_cache import CachedAnswers, CachedImage
from tests.support.in_process_builder import Builder, open_builder, request_for
from tests.support.in_process_gateway import open_gateway
from tests.support.in_process_launcher import REPO
from tests.support.settings import settings_for
from tests.support.valkey import QUICK, Valkey

SPEC = Spec(provider="git", spec="repo/a")
LINK = request_for("repo", "a").repo.updated(immutable_spec=True)


class EveryImage:
    """A registry that has every image that it is asked for."""

    async def find(self, image: str) -> ExistingImage | None:
        return ExistingImage(f"sha256:{image}")

    async def health_problem(self) -> str | None:
        return None

    async def aclose(self) -> None:
        return None


@contextlib.asynccontextmanager
async def running_builder(valkey: Valkey, folder: Path, **settings: object) -> AsyncIterator[Builder]:
    """The builder's API, begun with these settings."""
    secrets = {"service_token": "a" * 32, "installation_secret": "b" * 32}
    values: dict[str, Any] = {"redis_url": valkey.url, "data_dir": folder, **secrets, **QUICK, **settings}
    app = create_app(settings_for(BuilderSettings, values))
    async with app.router.lifespan_context(app), open_builder(valkey, folder, **settings) as builder:
        yield builder


async def ensured(builder: Builder, repo: ResolvedRepo = LINK) -> str:
    """The image that a launch is told of, which the registry has."""
    builds = Builds(context=builder.context, settings=builder.settings, attempts=builder.attempts, images=EveryImage())
    build = await builds.ensure(BuildRequest(repo=repo))
    assert build.state is BuildState.BUILT
    return build.image


async def cached_answers(context: ProcessContext) -> CachedAnswers:
    """What a warm launch finds in its one round trip."""
    return context.launch_cache.parse_lookup(await context.launch_cache.lookup_call(SPEC).run())


@pytest.fixture
async def gateway(valkey: Valkey, redis: Redis, tmp_path: Path) -> AsyncIterator[ProcessContext]:
    """A gateway's view of Redis, in which the link is resolved."""
    async with open_context(settings_for(BuilderSettings, {"redis_url": valkey.url, "data_dir": tmp_path})) as context:
        await context.launch_cache.store_repo(LINK, "policy")
        yield context


async def test_a_new_image_prefix_takes_effect_with_the_builder_s_start(
    valkey: Valkey, gateway: ProcessContext, tmp_path: Path
) -> None:
    async with running_builder(valkey, tmp_path, image_prefix="one/") as builder:
        first = await ensured(builder)
        assert first.startswith("one/")
        for image in ((await cached_answers(gateway)).image, await gateway.launch_cache.find_image(LINK)):
            assert image
            assert (image.image, image.digest) == (first, f"sha256:{first}")
    async with running_builder(valkey, tmp_path, image_prefix="two/") as builder:
        assert await cached_answers(gateway) == CachedAnswers(LINK, None)
        assert await gateway.launch_cache.find_image(LINK) is None
        second = await ensured(builder)
        assert second == first.replace("one/", "two/")
        for image in ((await cached_answers(gateway)).image, await gateway.launch_cache.find_image(LINK)):
            assert image
            assert image.image == second


@pytest.mark.parametrize(
    "changed",
    [
        {"image_prefix": "two/"},
        {"registry_url": "https://elsewhere.example"},
        {"executor": "docker"},
        {"build_push": False},
    ],
)
def test_another_prefix_registry_or_executor_is_another_place_and_another_bound_is_not(
    changed: dict[str, object],
) -> None:
    def place(**settings: object) -> str:
        values = {"image_prefix": "one/", "executor": "kubernetes"} | settings
        return image_store_id(settings_for(BuilderSettings, values))

    assert place(**changed) != place()
    assert place(build_slots=7) == place()


def test_images_that_are_not_pushed_are_in_one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for(BuilderSettings, {"executor": "docker", "build_push": False})
    here = image_store_id(settings)
    monkeypatch.setenv("BINDERY_DOCKER_HOST", "tcp://another.example:2375")
    assert image_store_id(settings) != here


async def test_what_an_older_version_left_is_not_believed(
    valkey: Valkey, gateway: ProcessContext, tmp_path: Path
) -> None:
    async with running_builder(valkey, tmp_path, image_prefix="two/") as builder:
        old = CachedImage(image="one/repo:a", asked_at=time.time()).model_dump_json()
        _, _, keys, _ = gateway.launch_cache.lookup_call(SPEC)
        fingerprint = BuildInput.of(LINK).fingerprint
        for key in (
            keys[1],
            f"{keys[0]}:image",
            *(gateway.keys(f"fact:{name}:{fingerprint}") for name in ("image", "built")),
        ):
            await gateway.redis.set(key, old)
        assert await cached_answers(gateway) == CachedAnswers(LINK, None)
        assert await gateway.launch_cache.find_image(LINK) is None
        assert (await ensured(builder)).startswith("two/")
        assert (await cached_answers(gateway)).image


async def test_an_image_that_is_gone_stays_unknown_for_a_while_to_who_asked_before(gateway: ProcessContext) -> None:
    facts = gateway.launch_cache
    await facts.set_image_store_id("here")
    await facts.withdraw_image(LINK)
    await facts.store_image(LINK, CachedImage(image="one/repo:a", asked_at=time.time()), "here")
    assert await cached_answers(gateway) == CachedAnswers(LINK, None)


@pytest.mark.usefixtures("redis")
async def test_a_launch_after_a_change_of_the_place_asks_the_builder_again(valkey: Valkey) -> None:
    repo = REPO.updated(immutable_spec=True)
    async with open_gateway(valkey) as gateway:
        facts = gateway.context.launch_cache
        await facts.set_image_store_id("here")
        await facts.store_image(repo, CachedImage(image="here/repo:a", asked_at=time.time()), "here")
        launch = await gateway.begin()
        await gateway.until_state(launch, LaunchState.LAUNCHING)
        assert gateway.backends.calls == ["resolve", "start"]
        await facts.set_image_store_id("there")
        again = await gateway.begin()
        await gateway.until(lambda: gateway.backends.builds == 1, "the builder is asked")
        assert gateway.backends.calls == ["resolve", "start", "resolve", "build"]
        assert (await gateway.read_launch(again)).image != "here/repo:a"
