"""A stack whose parts have different clocks. `python -m tests.support.skewed_stack` is `bindery up` with that change.

The clocks are faked by Debian's faketime: only the wall clock, as two hosts differ; never the monotonic one.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace

import httpx
import pytest

from deploy.local.components import Component
from deploy.local.installation import Installation
from deploy.local.plan import plan_components
from deploy.local.ports import Ports
from deploy.local.settings import Settings
from tests.support.paths import CHECKOUT
from tests.support.planned_stack import run_stack, second_of
from tests.support.stack import Stack

OFFSETS = {
    "gateway": 5.0,
    "gateway-2": -5.0,
    "builder": 5.0,
    "worker": -5.0,
    "worker-2": 5.0,
    "launcher": 5.0,
    "launcher-2": -5.0,
}
"""How far each part's clock is ahead of that of Redis, in seconds."""


class SkewedStack(Stack):
    """`bindery up` with two gateways, workers and launchers, whose clocks are ten seconds apart."""

    program = ("-m", "tests.support.skewed_stack")


def require_faketime() -> None:
    """Fail the test if this machine has no faketime."""
    if shutil.which("faketime") is None:
        pytest.fail("these tests need Debian's package faketime: apt-get install faketime")


def _library() -> str:
    """Return the path of faketime's library, as its own program sets it."""
    command = ("faketime", "-m", "-f", "+0s", "sh", "-c", "echo $LD_PRELOAD")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _plan(
    settings: Settings, installation: Installation, client: httpx.AsyncClient, environ: Mapping[str, str], ports: Ports
) -> list[Component]:
    library = _library()
    components = plan_components(settings, installation, client, environ, ports)
    launcher = next(component for component in components if component.name == "launcher")
    components.append(second_of(launcher))

    skewed = []
    for component in components:
        environment = dict(component.environment)
        if offset := OFFSETS.get(component.name):
            clock = {"LD_PRELOAD": library, "FAKETIME": f"{offset:+}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
            environment |= clock | {"PYTHONPATH": str(CHECKOUT / "tests" / "support" / "skewed_python")}
        skewed.append(replace(component, environment=environment))
    return skewed


if __name__ == "__main__":
    sys.exit(run_stack(_plan))
