"""docs/install.md on one's own machine: each command of the page, from nothing to a kernel and back to nothing."""

import json
import os
import shutil
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.forge import Forge
from tests.support.kernels import kernel
from tests.support.page_commands import Background, Terminal, bare_clone, commands, section
from tests.support.stack import free_ports

pytestmark = pytest.mark.long

ADDRESS = "<address of this repository>"
INSTALL_SECONDS = 600
NOTEBOOK = {
    "nbformat": 4, "nbformat_minor": 5, "metadata": {},
    "cells": [{"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None, "source": ""}],
}  # fmt: skip


def reader(folder: Path, forge: Forge) -> Terminal:
    """A terminal of somebody whose GitHub is `forge`; what apt would install there is only looked up."""
    terminal = Terminal(folder)
    programs = folder / "programs"
    programs.mkdir()
    own = shutil.which("sudo")
    as_root = f"exec {own} --preserve-env=APT_CONFIG" if own and os.geteuid() else "exec"
    (programs / "sudo").write_text(f'#!/bin/sh\n{as_root} "$@"\n')
    (programs / "sudo").chmod(0o755)
    (folder / "apt.conf").write_text('APT::Get::Simulate "true";\n')
    terminal.environ |= {
        "PATH": f"{programs}:{terminal.environ['PATH']}",
        "APT_CONFIG": str(folder / "apt.conf"),
        "BINDERY_PORT": str(free_ports()),
        "BINDERY_GITHUB_URL": forge.url,
        "BINDERY_GITHUB_API_URL": forge.api_url,
        "BINDERY_ALLOWED_NETWORKS": "127.0.0.0/8",
    }
    return terminal


@pytest.mark.timeout(1800)
def test_from_nothing_to_a_kernel_and_back_to_nothing(tmp_path: Path, forge: Forge) -> None:
    forge.create_repo(
        "binder-examples", "requirements", {"requirements.txt": "cowsay==6.1\n", "index.ipynb": json.dumps(NOTEBOOK)}
    )
    terminal = reader(tmp_path, forge)
    address = str(bare_clone(tmp_path))
    exports = commands(section("install.md", "## Behind a proxy of your network"))
    doctor = commands(section("install.md", "## When it does not start"))
    assert exports
    assert len(doctor) == 1
    for command in exports:
        terminal.type(command)

    launched = []
    ups: list[Background] = []
    ends = 0
    for command in commands(section("install.md", "## On your own machine")):
        typed = command.replace(ADDRESS, address)
        if typed == "make up":
            ups.append(Background.start(typed, terminal))
            ups[-1].until_says("Bindery is ready: http://127.0.0.1:", INSTALL_SECONDS)
            table = terminal.type(doctor[0])
            assert "FAIL" not in table, table
            continue

        output = terminal.type(typed)
        if " launch " in typed:
            launched.append(cow_of(output.strip()))
        if typed == "make stop":
            for up in ups[ends:]:
                up.until_ended(60)
            ends = len(ups)

    assert (len(ups), ends) == (2, 2)
    assert len(launched) == 1
    assert "(oo)" in launched[0]
    assert not (tmp_path / "bindery").exists()


def cow_of(address: str) -> str:
    """Return what a cell prints in the server at an address that `bindery launch` has printed."""
    parts = urlsplit(address)
    (token,) = parse_qs(parts.query)["token"]
    server = f"{parts.scheme}://{parts.netloc}/{'/'.join(parts.path.split('/')[1:3])}/"
    with kernel(server, token, "index.ipynb") as running:
        return running.run("import cowsay; print(cowsay.get_output_string('cow', 'Bindery'))")
