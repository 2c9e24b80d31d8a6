"""Servers on a system without overlays: each has copies, which lead to themselves."""

import asyncio
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.builder.executors.base import Finished
from services.builder.executors.process.executor import ProcessExecutor
from services.builder.executors.process.session.layout import Layout
from services.builder.executors.process.session.spec import SessionSettings
from tests.support.forge import Forge
from tests.support.hub_fixtures import execute, kernel_of
from tests.support.paths import share_packages
from tests.support.real_hub import HubStack
from tests.support.sample_builds import attempt_of, collect

SETTINGS = SessionSettings(
    base_packages=("jupyterlab", "ipykernel"), allowed_networks=("127.0.0.0/8",), uses_overlays=False
)
FILES = {
    "setup.py": "from setuptools import setup\n\nsetup(name='plot', version='1', py_modules=['plot'])\n",
    "requirements.txt": "-e .\ncertifi<2024\n",
    "plot.py": "answer = 42\n",
    "postBuild": "#!/bin/sh\nmkfifo pipe\nmkdir -p .cache && echo kept > .cache/data\n",
}
CODE = """
import json, os, pathlib, sys, plot, certifi
pathlib.Path(plot.__file__).write_text("answer = 43\\n")
pathlib.Path(certifi.__file__).write_text("changed")
pathlib.Path("cached").write_text(pathlib.Path.home().joinpath(".cache/data").read_text())
pathlib.Path({seen!r}).write_text(json.dumps([
    plot.__file__, certifi.__file__, certifi.__version__, sys.prefix, os.environ["HOME"], os.path.exists("pipe")
]))
"""


@pytest.fixture(scope="module")
def copying_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubStack]:
    stack = HubStack(tmp_path_factory.mktemp("hub"), BINDERY_IMAGE_OVERLAYS="false")
    share_packages(stack.data)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.mark.long
def test_each_server_has_copies_of_its_own_that_lead_to_themselves(copying_hub: HubStack, tmp_path: Path) -> None:
    hub = copying_hub
    with Forge(tmp_path / "served") as forge:
        attempt = attempt_of(f"{forge.url}/org/repo", forge.create_repo("org", "repo", dict(FILES)))
        executor = ProcessExecutor(hub.data, SETTINGS)
        asyncio.run(executor.ensure(attempt))
        messages, _, outcome = asyncio.run(collect(executor.follow(attempt, "")))
    assert outcome == Finished(ok=True), messages
    assert any("an absolute path that postBuild writes" in message for message in messages)
    image = Layout(hub.data).image(attempt.build_id)
    module = image.repo / "plot.py"
    assert stat.S_IMODE(module.stat().st_mode) & 0o222 == 0

    folders = set()
    for user in ("ann", "ben"):
        hub.serve(user, attempt.image)
        seen = tmp_path / user
        execute(hub, user, kernel_of(hub, user), CODE.format(seen=str(seen)), until_type="execute_reply")
        plot, certifi, version, prefix, home, has_pipe = json.loads(seen.read_text())
        assert (Path(plot).parent, Path(home).name, has_pipe) == (Path(home), "repo", False)
        assert Path(home).parent == Path(prefix).parent
        assert Path(certifi).is_relative_to(prefix)
        assert version.startswith("2023.")
        assert (Path(home) / "cached").read_text() == "kept\n"
        folders.add(Path(home).parent)
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {hub.data / "servers"}
    assert module.read_text() == "answer = 42\n"
    for user in ("ann", "ben"):
        assert hub.call("DELETE", f"users/{user}/server").status_code in (202, 204)
    asyncio.run(executor.remove(attempt.build_id))
