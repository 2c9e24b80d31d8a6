"""`make images`: what it hands to docker, and what it says where it can't go on. A recorder stands in for docker."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from services.common.version import VERSION
from tests.support.paths import CHECKOUT

IMAGES = ("gateway", "resolver", "builder", "launcher", "hub", "repo2docker")
RECORDER = """#!/bin/sh
case "$1" in
version) [ -z "$FAILS" ] || { echo "$FAILS" >&2; exit 1; } ;;
image) echo 178900000 ;;
*) echo "$*" >>"$CALLS"; case "$*" in *"${REFUSES:-nothing at all}"*) exit 1 ;; esac ;;
esac
"""
GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org"}
GIT |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org"}


class Checkout:
    """A checkout with all that the script reads, and a recorder of docker's command lines in PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        self.programs = folder / "bin"
        self.programs.mkdir()
        (self.programs / "docker").write_text(RECORDER)
        (self.programs / "docker").chmod(0o755)
        self._calls = folder / "calls"
        for path in ("Makefile", "deploy/images/build.sh", "services/common/version.py"):
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / path, self.folder / path)

    def make(self, *variables: str, **environ: str) -> subprocess.CompletedProcess[str]:
        names = {"IMAGES", "TAG", "PUSH", "BASE", "REPO2DOCKER_BASE", "SOURCE", "BUILD_OPTIONS"}
        names |= {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}  # of a `make test` that runs this
        base = {name: value for name, value in os.environ.items() if name not in names}
        base |= {"PATH": f"{self.programs}:{os.environ['PATH']}", "CALLS": str(self._calls), "FAILS": ""}
        base["GIT_CEILING_DIRECTORIES"] = str(self.folder.parent)
        return subprocess.run(
            ["make", "images", *variables], cwd=self.folder, env=base | environ, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=self.folder, env={**os.environ, **GIT}, capture_output=True, text=True, check=True
        ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def commit(checkout: Checkout) -> str:
    """The one commit of the checkout."""
    checkout.git("init", "--quiet")
    checkout.git("add", ".")
    checkout.git("commit", "--quiet", "--message", "All")
    return checkout.git("rev-parse", "HEAD")


def test_every_image_is_built_under_its_local_name_and_nothing_is_pushed(checkout: Checkout) -> None:
    result = checkout.make()
    assert result.returncode == 0, result.stderr
    assert [call.split()[:3] for call in checkout.calls] == [
        ["build", "--tag", f"localhost/bindery/{name}:local"] for name in IMAGES
    ]
    labels = f"--build-arg VERSION={VERSION} --build-arg REVISION=unknown --build-arg SOURCE="
    assert all(labels in call for call in checkout.calls)
    assert "BASE=" not in " ".join(checkout.calls), "the Dockerfile's own"
    assert checkout.calls[0].endswith("--file deploy/images/Dockerfile --target gateway .")
    assert checkout.calls[-1].endswith(" deploy/images/repo2docker")
    sizes = [line.split() for line in result.stdout.splitlines()]
    assert sizes == [[f"localhost/bindery/{name}:local", "178", "MB"] for name in IMAGES]


def test_a_push_tags_all_images_when_all_are_built(checkout: Checkout) -> None:
    result = checkout.make(
        "PUSH=registry.example.org/x", "TAG=1.0", "BASE=a", "REPO2DOCKER_BASE=b", "BUILD_OPTIONS=--pull --quiet"
    )
    assert result.returncode == 0, result.stderr
    builds, pushes = checkout.calls[: len(IMAGES)], checkout.calls[len(IMAGES) :]
    assert all("--pull --quiet" in call for call in builds)
    assert [" BASE=b " in call for call in builds] == [name == "repo2docker" for name in IMAGES]
    assert [" BASE=a " in call for call in builds] == [name != "repo2docker" for name in IMAGES]
    assert pushes == [
        line
        for name in IMAGES
        for line in (
            f"tag localhost/bindery/{name}:1.0 registry.example.org/x/{name}:1.0",
            f"push registry.example.org/x/{name}:1.0",
        )
    ]


def test_without_a_tag_a_push_names_the_commit_and_a_release_its_version(checkout: Checkout, commit: str) -> None:
    push = ("IMAGES=hub", "PUSH=localhost:5000/")

    assert checkout.make(*push).returncode == 0
    assert checkout.calls[-1] == f"push localhost:5000/hub:{commit[:12]}"
    assert f"REVISION={commit} " in checkout.calls[0]

    checkout.git("tag", f"v{VERSION}")
    assert checkout.make(*push).returncode == 0
    assert checkout.calls[-1] == f"push localhost:5000/hub:{VERSION}"

    (checkout.folder / "Makefile").open("a").write("\n# changed\n")
    assert checkout.make(*push).returncode == 0
    assert checkout.calls[-1] == f"push localhost:5000/hub:{commit[:12]}-changed"
    assert f"REVISION={commit}-changed " in checkout.calls[-3]


@pytest.mark.parametrize(
    ("remote", "source"),
    [
        ("https://someone:s3cret@forge.example.org/a/bindery", "https://forge.example.org/a/bindery"),
        ("https://forge.example.org/a/bindery", "https://forge.example.org/a/bindery"),
        ("git@forge.example.org:a/bindery", ""),
    ],
)
def test_the_source_is_the_address_of_the_clone_without_its_login(
    checkout: Checkout, commit: str, remote: str, source: str
) -> None:
    checkout.git("remote", "add", "origin", remote)
    assert checkout.make("IMAGES=hub").returncode == 0
    assert f" --build-arg SOURCE={source} " in checkout.calls[0]
    assert checkout.make("IMAGES=hub", "SOURCE=https://example.org/").returncode == 0
    assert " --build-arg SOURCE=https://example.org/ " in checkout.calls[1]


@pytest.mark.parametrize(
    ("variable", "advice"),
    [
        (
            "IMAGES=gateway proxy",
            "there is no image proxy: IMAGES has some of gateway resolver ",
        ),
        ("TAG=a/b", "TAG=a/b is not a tag"),
        (
            "PUSH=https://registry.example.org/",
            "write the registry as in names of images",
        ),
        ("PUSH=registry.example.org/X/", "write it in lower case"),
    ],
)
def test_a_variable_that_makes_no_sense_builds_nothing(checkout: Checkout, variable: str, advice: str) -> None:
    result = checkout.make(variable)
    assert result.returncode != 0
    assert advice in result.stderr
    assert checkout.calls == []


@pytest.mark.parametrize(
    ("problem", "advice"),
    [
        ("Cannot connect to the Docker daemon at unix:///x", "no container engine answers: start Docker"),
        ("permission denied while trying to connect", "your user may not open the engine's socket"),
    ],
)
def test_an_engine_that_can_t_be_used_is_explained(checkout: Checkout, problem: str, advice: str) -> None:
    result = checkout.make(FAILS=problem)
    assert result.returncode != 0
    assert advice in result.stderr
    assert checkout.calls == []


def test_a_machine_without_docker_is_told_to_install_it(checkout: Checkout) -> None:
    (checkout.programs / "docker").unlink()
    for program in ("make", "sh", "sed", "dirname", "git", "cut", "grep"):
        (checkout.programs / program).symlink_to(str(shutil.which(program)))
    result = checkout.make(PATH=str(checkout.programs))
    assert result.returncode != 0
    assert "there is no program docker here: install Docker" in result.stderr


def test_a_build_or_push_that_fails_ends_it_with_advice(checkout: Checkout) -> None:
    result = checkout.make("PUSH=localhost:5000/", REFUSES="--target builder")
    assert result.returncode != 0
    assert "builder could not be built" in result.stderr
    assert not any(call.startswith("push") for call in checkout.calls)

    result = checkout.make("PUSH=localhost:5000/x/", REFUSES="push ")
    assert result.returncode != 0
    assert f"localhost:5000/x/gateway:{VERSION} could not be pushed" in result.stderr
    assert "docker login localhost:5000" in result.stderr
