"""A conda environment through the process executor: from a repository and a channel on loopback to a running kernel."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.builder.executors.base import Finished
from services.builder.executors.process.executor import ProcessExecutor
from services.builder.executors.process.session.layout import Layout
from services.builder.executors.process.session.spec import SessionSettings
from tests.support.conda_channel import ChannelServer, CondaPackage, make_channel
from tests.support.conda_packages import FULL_VERSION, interpreter, places, stand_in, tool
from tests.support.polling import until
from tests.support.sample_builds import QUICK, attempt_of, collect, processes_mentioning
from tests.support.wheels import wheel, wheel_name

ENVIRONMENT = """
name: course
prefix: /home/me/miniconda3/envs/course
channels: [lab, nodefaults]
dependencies:
  - places
  - tool=1
  - pip:
    - --no-index
    - --find-links wheels
    - extra
variables:
  SEED: 42
"""
POST_BUILD = """#!/bin/bash
echo "places $PLACES"
echo "seed $SEED"
echo "prefix $CONDA_PREFIX"
tool
python -c 'import extra, sys; print("extra", extra.VERSION, sys.prefix)'
"""


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("channels")
    make_channel(folder / "lab", [interpreter(), tool("1.0"), tool("2.0"), places()])
    return folder


@pytest.fixture
def settings(channels: Path) -> Iterator[SessionSettings]:
    with ChannelServer(channels) as server:
        yield _settings(server.url)


async def test_an_environment_yml_becomes_an_environment_that_runs(
    tmp_path: Path, settings: SessionSettings, serve: Callable[[dict[str, str | bytes]], tuple[str, str]]
) -> None:
    files: dict[str, str | bytes] = {"environment.yml": ENVIRONMENT, "postBuild": POST_BUILD}
    attempt = attempt_of(*serve(files | {f"wheels/{wheel_name('extra')}": wheel("extra")}))
    executor = ProcessExecutor(tmp_path / "data", settings)
    await executor.ensure(attempt)
    messages, _, outcome = await collect(executor.follow(attempt, ""))
    assert outcome == Finished(ok=True), "".join(messages)
    image = Layout(tmp_path / "data").image(attempt.build_id)
    said = [message.rstrip("\n") for message in messages]
    assert f"places {image.env}/share/places" in said
    assert "seed 42" in said
    assert f"prefix {image.env}" in said
    assert "tool 1.0" in said
    assert f"extra 1.0 {image.env}" in said
    manifest = image.manifest()
    assert manifest
    assert manifest.python == FULL_VERSION


async def test_a_build_that_is_stopped_half_way_leaves_nothing_running_and_a_cache_that_serves_the_next(
    tmp_path: Path, serve: Callable[[dict[str, str | bytes]], tuple[str, str]]
) -> None:
    large = CondaPackage(name="large", files={f"share/{number}": os.urandom(100_000) for number in range(10)})
    make_channel(tmp_path / "channels" / "lab", [stand_in(), large])
    attempt = attempt_of(*serve({"environment.yml": "channels: [lab, nodefaults]\ndependencies: [large]\n"}))
    again = replace(attempt, build_id=attempt.build_id.replace("-1", "-2"))
    with ChannelServer(tmp_path / "channels") as server:
        server.halves |= {"large-1.0-0.tar.bz2", stand_in().file_name}
        executor = ProcessExecutor(tmp_path / "data", _settings(server.url))
        await executor.ensure(attempt)
        await until(lambda: len(server.halves_sent) == 2, "half of each package is sent")
        await executor.stop(attempt)
        assert processes_mentioning([attempt.build_id]) == []
        assert not Layout(tmp_path / "data").image(attempt.build_id).path.exists()
        server.halves.clear()
        await executor.ensure(again)
        messages, _, outcome = await collect(executor.follow(again, ""))
    assert outcome == Finished(ok=True), "".join(messages)
    built = Layout(tmp_path / "data").image(again.build_id).env
    for name, content in large.files.items():
        assert (built / name).read_bytes() == content


def _settings(url: str) -> SessionSettings:
    values = {"allowed_networks": ("127.0.0.0/8",), "conda_channel_alias": url, "conda_base_packages": ()}
    return QUICK.model_copy(update=values)
