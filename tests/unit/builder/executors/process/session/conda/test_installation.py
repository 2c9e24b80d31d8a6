"""Environments from a channel on loopback, installed by the process that builds start."""

import asyncio
import os
import sys
from pathlib import Path

from services.builder.executors.process.session.plan.build_plan import CondaEnvironment
from services.builder.executors.process.session.programs import output_of
from tests.support.conda_channel import CondaPackage
from tests.support.conda_installs import Installs
from tests.support.conda_packages import FULL_VERSION, VERSION, stand_in, tool


async def test_packages_are_true_where_they_lie(installs: Installs) -> None:
    installed = await installs.install("places", "tool")
    assert not installed.code, installed.text
    prefix = installed.prefix
    assert installed.packages == {"places": "1.0", "tool": "1.0", "python": FULL_VERSION}
    assert (prefix / "share/places/text").read_text() == f"at {prefix}/share\n"
    binary = (prefix / "share/places/binary").read_bytes()
    assert binary.startswith(b"before\0" + os.fsencode(prefix) + b"/share\0")
    assert binary.endswith(b"\0after")
    assert (prefix / "share/places/link").readlink() == Path("text")
    assert f"{prefix}/bin/python" in (prefix / "share/jupyter/kernels/places/kernel.json").read_text()
    assert (prefix / f"lib/python{VERSION}/site-packages/tool.py").is_file()
    assert (prefix / "bin/tool").read_text().startswith(f"#!{prefix}/bin/python")
    assert await output_of([str(prefix / "bin/places")], env={}, timeout_seconds=20) == "from places\n"
    assert "places 1.0 0\n" in installed.text
    assert "Installed 3 packages\n" in installed.text


async def test_a_write_in_an_environment_reaches_neither_the_cache_nor_another_environment(installs: Installs) -> None:
    first = await installs.install("tool")
    installs.server.packages_sent()
    files = [path for path in first.prefix.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {path.stat().st_nlink for path in files} == {1}
    for path in files:
        with path.open("ab") as file:
            file.write(b"# changed\n")
    second = await installs.install("tool")
    assert installs.server.packages_sent() == []
    assert "of which 0 are to be downloaded" in second.text
    for path in second.prefix.rglob("*.py"):
        assert "changed" not in path.read_text()


async def test_what_one_channel_sends_replaces_no_package_of_another(installs: Installs) -> None:
    genuine = CondaPackage(name="maths", files={"share/maths": "genuine"})
    forged = CondaPackage(name="maths", files={"share/maths": "forged"})
    installs.channel("main", [stand_in(), genuine])
    installs.channel("evil", [forged], sha256=None, md5=None)
    installs.channel("twin", [genuine], sha256=None, md5=None)
    first = await installs.install("maths", channels=("evil",))
    second = await installs.install("maths")
    third = await installs.install("maths", channels=("twin",))
    texts = [(installed.prefix / "share/maths").read_text() for installed in (first, second, third)]
    assert texts == ["forged", "genuine", "genuine"]


async def test_a_package_that_is_not_what_the_index_says_is_not_installed(installs: Installs) -> None:
    installs.channel("main", [stand_in(), tool()], sha256="0" * 64)
    installed = await installs.install("tool")
    assert installed.code == "build_failed"
    assert "hash" in installed.message
    assert not (installed.prefix / "bin/tool").exists()


async def test_two_builds_at_once_share_the_cache(installs: Installs) -> None:
    both = await asyncio.gather(installs.install("tool", "places"), installs.install("tool", "places"))
    for installed in both:
        assert not installed.code, installed.text
        assert installed.packages.keys() == {"python", "tool", "places"}


async def test_a_post_link_script_runs_in_the_environment_and_one_that_fails_is_told(installs: Installs) -> None:
    script = '#!/bin/bash\necho "$PREFIX $HOME $PKG_NAME" > "$PREFIX/linked"\nexit 3\n'
    installs.channel("main", [stand_in(), CondaPackage(name="late", files={"bin/.late-post-link.sh": script})])
    environment = CondaEnvironment(file="environment.yml", dependencies=("late",), variables={"SEED": "42"})
    installed = await installs.install_as_a_build(environment)
    assert not installed.code, installed.text
    home = installed.prefix.with_name("home")
    assert (installed.prefix / "linked").read_text() == f"{installed.prefix} {home} late\n"
    assert "The post-link script of late failed\n" in installed.text
    assert list(home.iterdir()) == []
    # conda itself, used in the environment later, looks for the file's variables there.
    assert '"SEED": "42"' in (installed.prefix / "conda-meta/state").read_text()


async def test_jupyter_is_compiled_so_that_no_server_has_to(installs: Installs) -> None:
    broken = CondaPackage(name="broken", is_noarch_python=True, files={"site-packages/broken.py": "{% template %}"})
    installs.channel("main", [stand_in(), tool(), broken])
    environment = CondaEnvironment(file="environment.yml", dependencies=("broken",))
    installed = await installs.install_as_a_build(environment, conda_base_packages=("tool",), compiles_bytecode=True)
    assert not installed.code, installed.text
    compiled = sorted(path.name for path in installed.prefix.rglob("*.pyc"))
    assert compiled == [f"tool.{sys.implementation.cache_tag}.pyc"]
