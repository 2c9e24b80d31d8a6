"""Builds by a Bindery whose executor is `docker`: repo2docker, an engine and a registry, all real."""

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from tests.docker.conftest import containers_of, start_stack, until_tidy
from tests.support.bare_repos import Link
from tests.support.docker_registry import Registry
from tests.support.engine import Engine
from tests.support.faults import Faults
from tests.support.forge import Forge
from tests.support.polling import eventually
from tests.support.stack import Stack
from tests.support.stack_builds import StackBuilder

TICKS = 60
Serve = Callable[[str], tuple[str, str]]


def ticking(docker: Engine, count: int = TICKS) -> str:
    """Return a Dockerfile whose step says a number each tenth of a second, and which no other has: none is cached."""
    return f"FROM {docker.base}\nRUN : {uuid4()}; for i in $(seq {count}); do echo tick-$i-; sleep 0.1; done\n"


def ticks(builder: StackBuilder, build_id: str) -> list[int]:
    output = "".join(line["message"] for line in builder.lines(build_id) if line["message"].startswith("#"))
    return [int(number) for number in re.findall(r"^#\d+ [\d.]+ tick-(\d+)-", output, re.MULTILINE)]


def test_a_dockerfile_is_built_pushed_found_again_and_runs_by_digest(
    docker: Engine, builder: StackBuilder, registry: Registry, repository: Serve
) -> None:
    url, sha = repository(f"FROM {docker.jupyter}\nRUN echo made > /tmp/mark\n")
    pending = builder.request_build(url, sha)
    build = builder.outcome(pending["build_id"])
    assert build["state"] == "built", builder.text(pending["build_id"])
    phases = {line["phase"] for line in builder.lines(pending["build_id"])}
    assert {"fetching", "building", "pushing"} <= phases
    again = builder.request_build(url, sha)
    assert (again["state"], again["digest"]) == ("built", build["digest"])
    name = f"{build['image'].rpartition(':')[0]}@{build['digest']}"
    docker.docker("rmi", "--force", build["image"])
    assert docker.docker("run", "--rm", name, "cat", "/tmp/mark").strip() == "made"
    labels = json.loads(docker.docker("image", "inspect", name))[0]["Config"]["Labels"]
    assert labels["org.opencontainers.image.source"] == url
    assert labels["org.opencontainers.image.revision"] == sha
    assert labels["bindery.build-id"] == pending["build_id"]
    until_tidy(docker, pending["build_id"])


def test_without_a_registry_the_engine_is_asked_whether_an_image_is_there(
    docker: Engine, repository: Serve, tmp_path: Path
) -> None:
    url, sha = repository(f"FROM {docker.jupyter}\nRUN echo made > /tmp/mark\n")
    stack = start_stack(tmp_path, docker, "local/team-", build_push="false")
    with contextlib.closing(stack.client), contextlib.closing(StackBuilder(stack)) as builder:
        try:
            pending = builder.request_build(url, sha)
            build = builder.outcome(pending["build_id"])
            assert build["state"] == "built", builder.text(pending["build_id"])
            assert docker.docker("run", "--rm", build["image"], "cat", "/tmp/mark").strip() == "made"
            assert builder.request_build(url, sha)["state"] == "built"
            docker.docker("rmi", "--force", build["image"])
            rebuild = builder.request_build(url, sha)
            assert rebuild["build_id"] not in {None, pending["build_id"]}
            assert builder.outcome(rebuild["build_id"])["state"] == "built"
        finally:
            stack.stop()


def test_a_link_to_a_file_of_the_builders_own_is_refused_and_nothing_of_it_is_told(
    builder: StackBuilder, forge: Forge
) -> None:
    sha = forge.create_repo("org", "linked", {"apt.txt": Link("/etc/os-release"), "README": "hello"})
    pending = builder.request_build(f"{forge.url}/org/linked", sha)
    error = builder.outcome(pending["build_id"])["error"]
    assert error["code"] == "build_failed"
    assert "apt.txt is a link that leads out of the repository: put the file itself there" in error["detail"]
    assert "PRETTY_NAME" not in builder.text(pending["build_id"]) + error["detail"]


def test_cancelled_while_it_runs_a_build_ends_in_the_engine_too(
    docker: Engine, builder: StackBuilder, repository: Serve
) -> None:
    pending = builder.request_build(*repository(ticking(docker, 3000)))
    builder.until(pending["build_id"], "tick-3-")
    assert _steps_of_engine("seq 3000")
    assert builder.cancel(pending["build_id"]) == 202
    assert builder.outcome(pending["build_id"], 20)["state"] == "cancelled"
    until_tidy(docker, pending["build_id"])
    eventually(lambda: not _steps_of_engine("seq 3000"), "the step ends", 20)


def _steps_of_engine(text: str) -> list[str]:
    """Return processes of this machine with a text in their command line: the engine runs its steps here."""
    steps = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if text in words and words.startswith("/bin/sh -c"):
                steps.append(words)
    return steps


def test_cancelled_while_it_pushes_a_build_leaves_no_image_in_the_registry(
    docker: Engine, builder: StackBuilder, repository: Serve, registry: Registry
) -> None:
    url, sha = repository(f"FROM {docker.base}\nRUN head -c 300000000 /dev/urandom > /big\n")
    pending = builder.request_build(url, sha)
    builder.until_state(pending["build_id"], "pushing")
    assert builder.cancel(pending["build_id"]) == 202
    build = builder.outcome(pending["build_id"], 20)
    assert build["state"] == "cancelled"
    until_tidy(docker, pending["build_id"])
    path, _, tag = build["image"].partition("/")[2].rpartition(":")
    assert registry.call("GET", f"/v2/{path}/manifests/{tag}").status == 404


def test_a_killed_worker_s_build_is_adopted_and_its_log_has_every_line_once(
    docker: Engine, stack: Stack, builder: StackBuilder, repository: Serve
) -> None:
    pending = builder.request_build(*repository(ticking(docker)))
    builder.until(pending["build_id"], "tick-5-")
    pid = stack.kill("worker")
    stack.until_replaced("worker", pid)
    build = builder.outcome(pending["build_id"])
    assert build["state"] == "built", builder.text(pending["build_id"])
    assert ticks(builder, pending["build_id"]) == list(range(1, TICKS + 1))


def test_a_paused_worker_s_build_is_adopted_meanwhile_and_its_log_has_every_line_once(
    docker: Engine, registry: Registry, repository: Serve, forge: Forge, tmp_path: Path
) -> None:
    count = 5 * TICKS  # longer than a lease, and than its adoption may take
    stack = start_stack(tmp_path, docker, f"{registry.address}/paused/", workers=2)
    try:
        with contextlib.closing(StackBuilder(stack)) as builder:
            faults = Faults(stack, forge, tmp_path)
            pending = builder.request_build(*repository(ticking(docker, count)))
            builder.until(pending["build_id"], "tick-5-")
            record = f"b:{pending['build_id']}"
            owner = faults.owner(record)
            with stack.paused(faults.part_of(owner)):
                eventually(lambda: faults.record(record)["owner"] not in {"", owner}, "an adoption", 20)
                ticks_before = len(ticks(builder, pending["build_id"]))
                eventually(
                    lambda: len(ticks(builder, pending["build_id"])) >= min(ticks_before + 10, count),
                    "lines from the other worker",
                )
            build = builder.outcome(pending["build_id"])
            assert build["state"] == "built", builder.text(pending["build_id"])
            assert ticks(builder, pending["build_id"]) == list(range(1, count + 1))
            until_tidy(docker, pending["build_id"])
    finally:
        stack.stop()


def test_a_container_that_is_removed_once_is_followed_by_another_and_the_log_says_so(
    docker: Engine, builder: StackBuilder, repository: Serve
) -> None:
    pending = builder.request_build(*repository(ticking(docker, 5 * TICKS)))  # longer than its removal takes
    builder.until(pending["build_id"], "tick-3-")
    docker.docker("rm", "--force", f"bindery-{pending['build_id']}")
    build = builder.outcome(pending["build_id"])
    assert build["state"] == "built", builder.text(pending["build_id"])
    gaps = [line["message"] for line in builder.lines(pending["build_id"]) if line["phase"] == "gap"]
    assert len(gaps) == 1
    assert "run again" in gaps[0]
    until_tidy(docker, pending["build_id"])


def test_a_container_that_is_removed_twice_is_a_lost_build(
    docker: Engine, builder: StackBuilder, repository: Serve
) -> None:
    pending = builder.request_build(*repository(ticking(docker, 1000)))
    for name in (f"bindery-{pending['build_id']}", f"bindery-{pending['build_id']}-r2"):
        eventually(lambda name=name: name in containers_of(docker), f"{name} is there")  # type: ignore[misc]
        eventually(
            lambda name=name: "Starting repo2docker" in docker.docker("logs", name, is_checked=False),  # type: ignore[misc]
            f"{name} runs",
        )
        docker.docker("rm", "--force", name)
    build = builder.outcome(pending["build_id"])
    assert (build["state"], build["error"]["code"]) == ("failed", "build_lost")
    until_tidy(docker, pending["build_id"])


def test_a_push_waits_for_a_registry_that_is_unavailable(
    docker: Engine, builder: StackBuilder, repository: Serve, registry: Registry
) -> None:
    pending = builder.request_build(*repository(ticking(docker, 10)))
    builder.until(pending["build_id"], "tick-1-")
    registry.stop()
    try:
        eventually(
            lambda: any(line["phase"] == "waiting" for line in builder.lines(pending["build_id"])),
            "the log says what is waited for", 60,
        )  # fmt: skip
    finally:
        registry.start()
    build = builder.outcome(pending["build_id"])
    assert build["state"] == "built", builder.text(pending["build_id"])
    assert build["digest"]
