"""A server that a real hub runs from a conda environment, which took Jupyter from a package index."""

# ruff: noqa: F811 -- pytest finds fixtures by the names of arguments

import asyncio
import json
from pathlib import Path

import pytest

from services.builder.executors.base import Finished
from services.builder.executors.process.executor import ProcessExecutor
from services.builder.executors.process.session.layout import Layout
from services.builder.executors.process.session.spec import SessionSettings
from tests.support.conda_channel import ChannelServer, make_channel
from tests.support.conda_packages import interpreter, places
from tests.support.forge import Forge
from tests.support.hub_fixtures import (
    environment,  # noqa: F401
    execute,
    hub,  # noqa: F401
    kernel_of,
    nothing_is_left,  # noqa: F401
)
from tests.support.real_hub import HubStack
from tests.support.sample_builds import attempt_of, collect

ENVIRONMENT = "name: course\nchannels: [lab, nodefaults]\ndependencies: [places]\nvariables: {SEED: 42}\n"
NAMES = ("PLACES", "SEED", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "VIRTUAL_ENV")


@pytest.mark.long
def test_a_kernel_runs_in_the_activated_environment(hub: HubStack, tmp_path: Path) -> None:
    make_channel(tmp_path / "channels" / "lab", [interpreter(), places()])
    with ChannelServer(tmp_path / "channels") as server, Forge(tmp_path / "served") as forge:
        settings = SessionSettings(allowed_networks=("127.0.0.0/8",), conda_channel_alias=server.url)
        attempt = attempt_of(
            f"{forge.url}/org/repo", forge.create_repo("org", "repo", {"environment.yml": ENVIRONMENT})
        )
        executor = ProcessExecutor(hub.data, settings)
        asyncio.run(executor.ensure(attempt))
        messages, _, outcome = asyncio.run(collect(executor.follow(attempt, "")))
    assert outcome == Finished(ok=True), "".join(messages)
    assert any("Jupyter comes from the package index" in message for message in messages)

    hub.serve("cora", attempt.image)
    seen = tmp_path / "seen"
    code = f"import json, os, sys; values = [os.environ.get(name) for name in {NAMES!r}]\n"
    code += f"open({str(seen)!r}, 'w').write(json.dumps([sys.prefix, *values]))"
    execute(hub, "cora", kernel_of(hub, "cora"), code, until_type="execute_reply")
    env = str(Layout(hub.data).image(attempt.build_id).env)
    assert json.loads(seen.read_text()) == [env, f"{env}/share/places", "42", env, "course", None]
    asyncio.run(executor.remove(attempt.build_id))
