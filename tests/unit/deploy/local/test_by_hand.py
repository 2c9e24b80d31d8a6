"""Components that are left out: their names, which parts wait for them, and what is written for a developer."""

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.by_hand import check_kinds, divide, independent_of, write_instructions
from deploy.local.components import Component
from deploy.local.settings import StartupError

AWKWARD = 'it\'s "$HOME" `x` \\ and\ta new\nline'


def component(name: str, *needs: str, after: tuple[str, ...] = (), **environment: str) -> Component:
    command = (sys.executable, "-c", "import os; print(repr(os.environ['AWKWARD']), os.getcwd())")
    return Component(name=name, command=command, environment=environment, after=after, needs=needs)


STACK = [
    component("redis"),
    component("proxy"),
    component("hub", "proxy"),
    component("culler", after=("hub",)),
    component("builder", "worker", after=("redis",)),
    component("worker", after=("redis",)),
    component("worker-2", after=("redis",)),
    component("launcher", "hub", after=("redis",)),
    component("gateway", "builder", "launcher", after=("redis",)),
]


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        ([], set()),
        (["gateway"], {"gateway"}),
        (["gateway, worker", "hub"], {"gateway", "worker", "hub"}),
        ([",gateway,"], {"gateway"}),
    ],
)
def test_names_may_be_repeated_or_have_commas_between_them(names: list[str], kinds: set[str]) -> None:
    assert check_kinds(names) == kinds


@pytest.mark.parametrize("name", ["gatway", "worker-2", "up"])
def test_a_name_that_is_not_a_kind_of_component_is_refused(name: str) -> None:
    with pytest.raises(StartupError, match=f"There is no component '{name}' to leave out: use some of redis, proxy,"):
        check_kinds(["gateway", name])


def test_every_component_of_a_kind_is_left_out() -> None:
    division = divide(STACK, {"worker"})
    assert [part.name for part in division.by_hand] == ["worker", "worker-2"]
    assert [part.name for part in division.by_up] == [part.name for part in STACK if part.kind != "worker"]


@pytest.mark.parametrize(
    ("without", "independent"),
    [
        ("gateway", {"redis", "proxy", "hub", "culler", "builder", "worker", "worker-2", "launcher"}),
        ("worker", {"redis", "proxy", "hub", "culler", "launcher"}),
        ("hub", {"redis", "proxy", "builder", "worker", "worker-2"}),
        ("proxy", {"redis", "builder", "worker", "worker-2"}),
        ("redis", {"proxy", "hub", "culler"}),
    ],
)
def test_what_can_be_healthy_without_a_component(without: str, independent: set[str]) -> None:
    division = divide(STACK, {without})
    assert {part.name for part in independent_of(division.by_hand, division.by_up)} == independent


def test_the_printed_line_gives_a_component_its_environment_and_shows_no_secret(tmp_path: Path) -> None:
    folder = tmp_path / "a data folder"
    folder.mkdir()
    lines = write_instructions([component("hub", AWKWARD=AWKWARD, PATH=os.environ["PATH"])], folder)
    assert lines[0] == "To run hub by hand, in another terminal:"
    assert AWKWARD not in "\n".join(lines)
    assert str(folder / "hub.env") in lines[2]
    assert stat.S_IMODE((folder / "hub.env").stat().st_mode) == 0o600

    result = subprocess.run(["/bin/sh", "-c", lines[1]], env={}, cwd="/", capture_output=True, text=True, check=True)
    assert result.stdout == f"{AWKWARD!r} {Path(__file__).parents[4]}\n"


@pytest.mark.parametrize(("variables", "mode"), [({}, "true"), ({"BINDERY_DEV_MODE": "false"}, "false")])
def test_a_gateway_by_hand_reloads_its_pages_unless_the_user_says_otherwise(
    tmp_path: Path, variables: dict[str, str], mode: str
) -> None:
    gateway = Component(name="gateway", command=("true",), environment=variables)
    write_instructions([gateway, component("hub")], tmp_path)
    assert shlex.split((tmp_path / "gateway.env").read_text()) == [f"BINDERY_DEV_MODE={mode}"]
    assert (tmp_path / "hub.env").read_text() == ""
