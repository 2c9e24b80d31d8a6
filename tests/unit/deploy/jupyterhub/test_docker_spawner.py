"""Servers as containers: the requests to the engine, and the errors if it does not answer."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from tornado.web import HTTPError

from deploy.jupyterhub.docker_spawner import BinderDockerSpawner
from tests.support.spawners import message_of, spawner_of


class Recording(docker.APIClient):  # type: ignore[misc]  # docker has no types
    """A client of no engine that keeps what it is asked to create."""

    def __init__(self) -> None:
        super().__init__(base_url="unix:///nowhere", version="1.44")
        self.creation_options: dict[str, Any] = {}

    def create_container(self, **options: Any) -> dict[str, str]:
        self.creation_options = options
        return {"Id": "1"}


async def creation_options(**settings: Any) -> dict[str, Any]:
    """What the engine is asked to create for a launch."""
    spawner = spawner_of(BinderDockerSpawner, **settings)
    type(spawner)._client = client = Recording()
    await spawner.create_object()
    return client.creation_options


async def test_a_container_has_what_its_launch_says() -> None:
    wishes = {"memory_guarantee": 1 << 28, "memory_limit": 1 << 29, "cpu_guarantee": 0.5, "cpu_limit": 1.5, "gpus": 2}
    container = await creation_options(resources=wishes, cors_allow_origin="*")
    host = container["host_config"]
    assert (host["Memory"], host["MemoryReservation"]) == (1 << 29, 1 << 28)
    assert (host["CpuQuota"] / host["CpuPeriod"], host["CpuShares"]) == (1.5, 512)
    [devices] = host["DeviceRequests"]
    assert (devices["Count"], devices["Capabilities"]) == (2, [["gpu"]])
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert not host.get("AutoRemove")
    assert container["labels"]["bindery/launch"] == "0123456789abcdef"
    assert container["labels"]["bindery/repo-url"] == "https://example.org/{team}/r"
    assert container["environment"]["JUPYTER_TOKEN"] == "the-token"
    assert "--ServerApp.allow_origin=*" in container["command"]
    assert "the-token" not in str(container["command"])


async def test_a_launch_that_asks_for_no_gpu_gets_none_and_what_is_configured_stays() -> None:
    container = await creation_options(extra_host_config={"shm_size": 1 << 20}, no_new_privileges=False)
    assert "DeviceRequests" not in container["host_config"]
    assert container["host_config"]["ShmSize"] == 1 << 20
    assert "SecurityOpt" not in container["host_config"]


async def test_a_container_has_no_capabilities_and_bounds_for_processes_log_and_memory() -> None:
    host = (await creation_options())["host_config"]
    assert host["CapDrop"] == ["ALL"]
    assert (host["PidsLimit"], host["Memory"]) == (4096, 2 << 30)
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}}


async def test_what_is_configured_for_a_containers_bounds_holds() -> None:
    none = {"dropped_capabilities": [], "pids_limit": 0, "log_config": {}, "default_mem_limit": 0}
    host = (await creation_options(**none))["host_config"]
    assert not {"CapDrop", "PidsLimit", "LogConfig", "Memory"} & {name for name, value in host.items() if value}
    host_options = {"cap_drop": ["NET_RAW"], "pids_limit": 10, "log_config": {"type": "journald", "config": {}}}
    host = (await creation_options(extra_host_config=host_options, mem_limit="1G"))["host_config"]
    assert (host["CapDrop"], host["PidsLimit"], host["Memory"]) == (["NET_RAW"], 10, 1 << 30)
    assert host["LogConfig"]["Type"] == "journald"
    host = (await creation_options(resources={"memory_guarantee": 3 << 30}))["host_config"]
    assert (host["Memory"], host["MemoryReservation"]) == (3 << 30, 3 << 30)


async def message_of_start(base_url: str) -> str:
    """What a start says that finds this engine."""
    spawner = spawner_of(BinderDockerSpawner, client_kwargs={"base_url": base_url, "timeout": 1})
    with pytest.raises(HTTPError) as raised:
        await spawner.start()
    assert raised.value.status_code == 500
    return message_of(raised.value)


async def test_a_missing_socket_of_the_engine_is_reported(tmp_path: Path) -> None:
    message = await message_of_start(f"unix://{tmp_path}/docker.sock")
    assert message == "Failed to start the container: the engine does not answer (No such file or directory)."


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is bound, but not listened at."""
    with socket.socket() as bound_socket:
        bound_socket.bind(("127.0.0.1", 0))
        yield bound_socket.getsockname()[1]


async def test_a_refused_connection_to_the_engine_is_reported(port: int) -> None:
    message = await message_of_start(f"tcp://127.0.0.1:{port}")
    assert message == "Failed to start the container: the engine does not answer (Connection refused)."


async def test_an_engine_that_is_lost_during_a_pull_is_reported(port: int) -> None:
    spawner = spawner_of(BinderDockerSpawner, pull_policy="always")
    type(spawner)._client = docker.APIClient(base_url=f"tcp://127.0.0.1:{port}", version="1.44")
    with pytest.raises(HTTPError) as raised:
        await spawner.start()
    message = message_of(raised.value)
    assert message == "Failed to start the container: the engine does not answer (Connection refused)."


@pytest.mark.slow
async def test_a_silent_engine_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        message = await message_of_start(f"tcp://127.0.0.1:{silent.getsockname()[1]}")
    assert message == "Failed to start the container: the engine does not answer (timed out)."
