"""Repositories with a Dockerfile for tests of the whole chain, from a launch to the end of its server."""

import json
from dataclasses import dataclass
from typing import Any

from tests.support.api_launches import ApiLaunch, git_spec
from tests.support.forge import Forge
from tests.support.kernels import first_cell, kernel
from tests.support.launching import Launching

NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "cells": [
        {
            "cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None,
            "source": "import os\nprint(open('data.txt').read(), os.environ['BINDER_REPO_URL'])",
        },
    ],
}  # fmt: skip
START_SECONDS = 15
QUICK: dict[str, object] = {
    "resource_classes": json.dumps(
        {
            "tiny": {"memory_limit": "96M", "is_offered": True},
            "vast": {"memory_guarantee": "999T", "is_offered": True},
        }
    ),
    "server_start_timeout_seconds": START_SECONDS,
    "image_pull_timeout_seconds": 40,
    "cull_every_seconds": 1,
    "idle_timeout_seconds": 10,
    "server_poll_seconds": 1,
    "reap_interval_seconds": 1,
    "finished_stream_seconds": 1,
}
"""Settings of a Bindery whose servers start or fail soon, and end soon after."""
QUICK_VALUES: dict[str, Any] = {
    "everyPart": {
        "extraConfig": {
            name: QUICK[name]
            for name in ("image_pull_timeout_seconds", "reap_interval_seconds", "finished_stream_seconds")
        }
        | {"resource_classes": json.loads(str(QUICK["resource_classes"]))}
    },
    "servers": {"startTimeoutSeconds": START_SECONDS, "cullEverySeconds": 1, "idleTimeoutSeconds": 10},
    "hub": {"extraEnv": [{"name": "BINDERY_SERVER_POLL_SECONDS", "value": "1"}]},
}
"""The same as values of the chart."""
SILENT = "#!/bin/sh\nexec sleep 1000\n"
"""A Jupyter that runs, and opens no port."""
GREEDY = "#!/bin/sh\nexec python3 -c 'kept = [b\"x\" * (1 << 20) for _ in range(1 << 12)]'\n"
"""A Jupyter that takes more memory than it may."""
FALLEN = "#!/bin/sh\necho 'no such luck' >&2\nexit 3\n"
"""A Jupyter that ends at once."""


@dataclass(frozen=True)
class Repository:
    """A repository that the forge serves."""

    url: str
    sha: str

    def launch(self, stack: Launching, **body: object) -> ApiLaunch:
        """Launch it by the v1 API."""
        return ApiLaunch.begin(stack, git_spec(self.url, self.sha), **body)


@dataclass(frozen=True, kw_only=True)
class NeverUp:
    """A server that does not come up: the program in JupyterLab's place, and the error of its launch."""

    name: str
    script: str
    code: str
    words: str
    resource_class: str | None = None

    def check(self, stack: Launching, forge: Forge, image: str) -> None:
        """Launch a repository with such a server, and see it fail."""
        dockerfile = f"FROM {image}\nUSER root\nCOPY --chmod=755 jupyter-lab /usr/local/sbin/\n"
        files = {
            "Dockerfile": f"{dockerfile}ENV PATH=/usr/local/sbin:$PATH\nUSER 1000\n",
            "jupyter-lab": self.script,
        }
        repository = Repository(f"{forge.url}/chain/{self.name}", forge.create_repo("chain", self.name, files))
        api_launch = repository.launch(stack, resource_class=self.resource_class)
        api_launch.stream.outcome(240)
        problem = api_launch.problem()
        assert (problem["code"], self.words in problem["detail"]) == (self.code, True), problem


NEVER_UP = [
    NeverUp(
        name="fallen",
        script=FALLEN,
        code="server_start_failed",
        words="exit status 3 before it answered. The last lines of its log:",
    ),
    NeverUp(
        name="greedy",
        script=GREEDY,
        code="server_out_of_memory",
        words="exit status 137 (OOMKilled)",
        resource_class="tiny",
    ),
    NeverUp(
        name="silent", script=SILENT, code="server_port_closed", words=f"didn't respond in {START_SECONDS} seconds"
    ),
]


def with_notebook(forge: Forge, name: str, image: str, *steps: str) -> Repository:
    """Return a repository whose Dockerfile puts its notebook and its data into `image`, after these steps."""
    files = {
        "Dockerfile": "\n".join([f"FROM {image}", *steps, "COPY --chown=1000 index.ipynb data.txt ./", ""]),
        "index.ipynb": json.dumps(NOTEBOOK),
        "data.txt": f"the data of {name}",
    }
    return Repository(f"{forge.url}/chain/{name}", forge.create_repo("chain", name, files))


def run_notebook(launch: ApiLaunch, repository: Repository) -> dict[str, Any]:
    """Wait until a launch is ready and run its notebook; the launch as it is then."""
    launch.stream.outcome(240)
    view = launch.until_ended()
    url = view["url"]
    token = view["token"]
    with kernel(url, token, "index.ipynb") as running_kernel:
        output = running_kernel.run(first_cell(url, token, "index.ipynb"))
    assert output == f"the data of {repository.url.rpartition('/')[2]} {repository.url}\n"
    assert view["open_url"].startswith(url)
    return view
