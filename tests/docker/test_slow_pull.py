"""A slow pull: its progress is announced, and it has a time limit of its own, longer than a start's."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.builder.image_names import image_name
from services.common.models import BuildInput
from tests.docker.conftest import start_stack
from tests.support.docker_registry import Registry
from tests.support.engine import Engine
from tests.support.forge import Forge
from tests.support.full_chain import Repository
from tests.support.leftovers import delete_hub_user
from tests.support.polling import eventually
from tests.support.slow_tcp_proxy import SlowRelay
from tests.support.stack import Stack

START_SECONDS = 15.0
LAYER_MIB = 16
"""More than comes through a slow relay in any run of this test."""


@pytest.fixture
def relay(registry: Registry) -> Iterator[SlowRelay]:
    with SlowRelay(registry.port) as relay:
        yield relay


@pytest.fixture
def stack(docker: Engine, relay: SlowRelay, tmp_path: Path) -> Iterator[Stack]:
    stack = start_stack(tmp_path, docker, f"{relay.address}/slow/", server_start_timeout_seconds=START_SECONDS)
    try:
        yield stack
    finally:
        for user in stack.hub_users():
            delete_hub_user(stack, user)
        eventually(lambda: not stack.hub_users(), "its servers have ended")
        stack.stop()


def put_image(docker: Engine, registry: Registry, repository: Repository) -> None:
    """Put the repository's image into the registry: of its layers the engine has all but one."""
    made_from = BuildInput(repo_url=repository.url, build_ref=repository.sha, slug=repository.url)
    image = image_name(f"{registry.address}/slow/", made_from)
    docker.docker("tag", docker.jupyter, image)
    docker.docker("push", "--quiet", image, seconds=300)
    docker.docker("rmi", image)
    registry.add_layer(image.partition("/")[2], "noise", os.urandom(LAYER_MIB << 20))


def test_a_pull_longer_than_a_start_may_take_is_waited_for_and_not_repeated(
    stack: Stack, docker: Engine, forge: Forge, registry: Registry, relay: SlowRelay
) -> None:
    sha = forge.create_repo("chain", "slow", {"Dockerfile": f"FROM {docker.jupyter}\n"})
    repository = Repository(f"{forge.url}/chain/slow", sha)
    put_image(docker, registry, repository)

    relay.slow_down()
    relay.requests.clear()
    stream = repository.launch(stack).stream
    stream.until_message("Pulling image")
    started_at = time.monotonic()
    eventually(
        lambda: time.monotonic() - started_at > 1.2 * START_SECONDS or stream.terminal, "the pull takes long", 60
    )
    progress = [message for message in stream.messages if "layers;" in message]
    assert stream.terminal is None, (stream.terminal, stream.messages)
    assert len(progress) > 3, stream.messages
    assert "Downloading" in progress[-1]

    relay.speed_up()
    ready = stream.outcome(120)
    assert ready["phase"] == "ready", ready
    assert sum("Pulling image " in message for message in stream.messages) == 1, stream.messages
    blobs = [request for request in relay.requests if request.startswith("GET ") and "/blobs/" in request]
    assert len(blobs) == len(set(blobs)), blobs
