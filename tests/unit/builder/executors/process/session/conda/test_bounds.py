"""What a channel, a package or the operator's network may not do to a build: sizes, times, credentials, the cache."""

import json
import os
import socket
from pathlib import Path

import pytest

from services.builder.executors.process.session.conda.cache import in_use
from services.builder.executors.process.session.plan.build_plan import CondaEnvironment
from tests.support.conda_channel import ChannelServer, CondaPackage, make_channel
from tests.support.conda_installs import Installs
from tests.support.conda_packages import stand_in, tool

TOOL = CondaEnvironment(file="environment.yml", dependencies=("tool",))
SMALL = CondaPackage(name="small", files={"share/small": os.urandom(100_000)})
LARGE = CondaPackage(name="large", files={"share/large": os.urandom(300_000)})


async def test_packages_that_say_to_be_too_large_are_not_downloaded(installs: Installs) -> None:
    installs.channel("main", [stand_in(), LARGE])
    installed = await installs.install("large", conda_download_max_bytes=250_000)
    assert installed.code == "build_failed"
    assert "BINDERY_CONDA_DOWNLOAD_MAX_BYTES" in installed.message
    assert "large-1.0-0.tar.bz2" not in installs.server.packages_sent()


async def test_packages_that_are_larger_than_they_say_end_the_download(installs: Installs) -> None:
    installs.channel("main", [stand_in(), LARGE], size=10)
    environment = CondaEnvironment(file="environment.yml", dependencies=("large",))
    installed = await installs.install_as_a_build(environment, conda_download_max_bytes=250_000)
    assert installed.code == "build_failed"
    assert "a channel understates the sizes of its packages" in installed.message


@pytest.mark.long
async def test_an_index_that_is_too_large_ends_the_build(installs: Installs) -> None:
    installs.channel("main", [stand_in(), tool()], license="x" * 200_000)
    installed = await installs.install_as_a_build(TOOL, conda_download_max_bytes=100_000)
    assert installed.code == "build_failed"
    assert "File too large" in installed.message


@pytest.mark.long
async def test_a_channel_that_does_not_answer_is_named(installs: Installs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        installed = await installs.install(
            "tool", conda_index_timeout_seconds=0.1, conda_default_channels=(_below(mute),)
        )
    assert installed.code == "build_failed"
    assert "A channel of environment.yml can't be read" in installed.message
    assert "/mute/" in installed.message


async def test_an_installation_ends_with_its_deadline(installs: Installs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        installed = await installs.install_as_a_build(
            TOOL, install_timeout_seconds=0.5, conda_default_channels=(_below(mute),)
        )
    assert installed.code == "build_timeout"
    assert (
        installed.message == "The installation of the conda environment did not end within 0.5 seconds and was killed"
    )


async def test_offline_only_the_cache_counts(installs: Installs) -> None:
    await installs.install("tool")
    installs.server.paths.clear()
    again = await installs.install("tool", conda_offline=True)
    assert not again.code, again.message
    missing = await installs.install("tool", "places", conda_offline=True)
    assert missing.message == (
        "environment.yml: places 1.0 0 is not in the cache, and BINDERY_CONDA_OFFLINE forbids to fetch it"
    )
    unknown = await installs.install("tool", conda_offline=True, conda_default_channels=("never-read",))
    assert "A channel of environment.yml can't be read" in unknown.message
    assert installs.server.paths == []


async def test_channels_are_reached_through_the_proxy_of_the_environment(
    installs: Installs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", installs.server.url)
    await installs.install("tool", conda_default_channels=("http://channel.invalid/lab",))
    assert any(path.startswith("http://channel.invalid/lab/noarch/") for path in installs.server.paths)


async def test_credentials_reach_the_mirror_and_neither_a_script_nor_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, password = "mirror", "a-long-password"
    script = "#!/bin/bash\nenv > $PREFIX/seen\n"
    package = CondaPackage(name="tool", files={"bin/.tool-post-link.sh": script})
    make_channel(tmp_path / "channels" / "main", [stand_in(), package])
    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps({"127.0.0.1": {"BasicHTTP": {"username": user, "password": password}}}))
    with ChannelServer(tmp_path / "channels", login=(user, password)) as server:
        installs = Installs(tmp_path, server)
        monkeypatch.setenv("RATTLER_AUTH_FILE", str(credentials))
        installed = await installs.install_as_a_build(TOOL)
        assert not installed.code, installed.text
        seen = (installed.prefix / "seen").read_text()
        assert "PREFIX=" in seen
        assert "RATTLER_AUTH_FILE" not in seen
        echoing = await installs.install_as_a_build(
            CondaEnvironment(file="environment.yml", dependencies=(f"tool =>{password}",))
        )
        assert "[secret]" in echoing.message
        assert password not in echoing.message + echoing.text


async def test_the_cache_shrinks_to_its_bound_and_the_least_used_go_first(installs: Installs) -> None:
    installs.channel("main", [stand_in(), SMALL, LARGE])
    await installs.install("small")
    await installs.install("large", conda_cache_max_bytes=350_000)
    installs.server.packages_sent()
    await installs.install("large")
    assert installs.server.packages_sent() == []
    await installs.install("small")
    assert installs.server.packages_sent() == ["small-1.0-0.tar.bz2"]


async def test_a_cache_that_another_build_uses_is_left_as_it_is(installs: Installs) -> None:
    with in_use(installs.cache, max_bytes=10**9):
        await installs.install("tool", conda_cache_max_bytes=0)
        installs.server.packages_sent()
        await installs.install("tool", conda_cache_max_bytes=0)
        assert installs.server.packages_sent() == []
    await installs.install("tool", conda_cache_max_bytes=0)
    await installs.install("tool")
    assert "tool-1.0-0.tar.bz2" in installs.server.packages_sent()


def _below(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}/mute"
