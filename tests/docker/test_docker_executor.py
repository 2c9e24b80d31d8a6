"""The docker executor alone, with a real engine: how builds end, and what their logs say."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.builder.executors.base import (
    Attempt,
    Batch,
    ExecutionVanishedError,
    ExecutorUnavailableError,
    Finished,
    Line,
)
from services.builder.executors.docker.executor import DockerExecutor
from services.builder.executors.docker.settings import DockerSettings
from services.common.models.build import image_key
from services.common.models.errors import BinderyError
from tests.support.docker_registry import Registry
from tests.support.engine import Engine
from tests.support.settings import settings_for
from tests.support.stack import free_ports

Serve = Callable[[str], tuple[str, str]]
Make = Callable[..., DockerExecutor]
INSTALLATION = "executor-tests"


@pytest.fixture
async def make(docker: Engine, registry: Registry) -> AsyncIterator[Make]:
    """Make an executor; what its installation has left in the engine is removed after the test."""
    executors: list[DockerExecutor] = []

    def make_one(**settings: object) -> DockerExecutor:
        defaults: dict[str, object] = {
            "docker_host": docker.host, "docker_network": "host", "builder_image": docker.builder,
            "image_prefix": f"{registry.address}/team/", "installation_id": INSTALLATION,
        }  # fmt: skip
        executors.append(DockerExecutor(settings_for(DockerSettings, defaults | settings)))
        return executors[-1]

    yield make_one
    for executor in executors:
        await executor.aclose()
    ids = docker.docker("ps", "--all", "--quiet", "--filter", f"label=bindery.installation={INSTALLATION}").split()
    if ids:
        docker.docker("rm", "--force", *ids)


def attempt_at(registry: Registry, url: str, sha: str, **fields: object) -> Attempt:
    image = f"{registry.address}/team/{url.rpartition('/')[2]}:{sha}"
    defaults: dict[str, object] = {
        "build_id": f"{image_key(image)}-1",
        "image": image,
        "repo_url": url,
        "ref": sha,
        "epoch": 1,
    }
    return Attempt(**(defaults | fields))  # type: ignore[arg-type]


async def follow_to_end(
    executor: DockerExecutor, attempt: Attempt, position: str = ""
) -> tuple[list[Line], Finished, str]:
    """Return all messages from a position on, the outcome, and the last position."""
    lines: list[Line] = []
    async with asyncio.timeout(90):
        async for news in executor.follow(attempt, position):
            if isinstance(news, Finished):
                return lines, news, position
            lines += news.lines
            position = news.position
    raise AssertionError("the log ended without a result")


async def first_batch(executor: DockerExecutor, attempt: Attempt) -> Batch:
    async with asyncio.timeout(60):
        async for news in executor.follow(attempt, ""):
            assert isinstance(news, Batch), news
            return news
    raise AssertionError("nothing was told")


async def until_line(executor: DockerExecutor, attempt: Attempt, text: str) -> str:
    """Follow from the beginning until a line has `text`; the position after its batch."""
    async with asyncio.timeout(60):
        async for news in executor.follow(attempt, ""):
            assert isinstance(news, Batch), news
            if any(text in line.message for line in news.lines):
                return news.position
    raise AssertionError(f"no line with {text}")


def text_of(lines: list[Line]) -> str:
    return "".join(line.message for line in lines)


# How executions end


async def test_a_step_out_of_memory_names_the_limit_of_the_engine(
    docker: Engine, make: Make, registry: Registry, repository: Serve
) -> None:
    if docker.memory_bytes is None:
        pytest.skip("no engine of our own with a limit for its steps")
    hungry = f'python3 -c "len(bytearray({2 * docker.memory_bytes}))"'
    executor = make(build_memory_limit="512Mi")
    attempt = attempt_at(registry, *repository(f"FROM {docker.jupyter}\nRUN {hungry}\n"))
    await executor.ensure(attempt)
    lines, outcome, _ = await follow_to_end(executor, attempt)
    assert outcome.error_code == "build_out_of_memory", (outcome, text_of(lines))
    assert "the container engine's own" in str(outcome.error_message)
    assert "512Mi" not in str(outcome.error_message)


async def test_repo2docker_out_of_memory_names_the_limit_of_its_container(
    docker: Engine, make: Make, registry: Registry, repository: Serve
) -> None:
    executor = make(build_memory_limit="16Mi")
    attempt = attempt_at(registry, *repository(f"FROM {docker.jupyter}\n"))
    await executor.ensure(attempt)
    _, outcome, _ = await follow_to_end(executor, attempt)
    assert outcome.error_code == "build_out_of_memory", outcome
    assert "16Mi" in str(outcome.error_message)


async def test_wrong_credentials_at_the_push_are_push_denied_and_right_ones_push(
    docker: Engine, make: Make, repository: Serve, tmp_path: Path
) -> None:
    url, sha = repository("FROM scratch\nCOPY Dockerfile /\n")
    with Registry(tmp_path, users={"pusher": "s3cret"}) as registry:
        for password, run in (("wrong", 1), ("s3cret", 2)):
            (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": _basic(password)}}}))
            executor = make(docker_config=str(tmp_path / "config.json"))
            attempt = attempt_at(registry, url, sha, run=run)
            await executor.ensure(attempt)
            inspection = docker.docker("inspect", f"bindery-{attempt.name}")
            lines, outcome, _ = await follow_to_end(executor, attempt)
            if password == "wrong":
                assert outcome.error_code == "push_denied", (outcome, text_of(lines))
            else:
                assert outcome == Finished(ok=True), text_of(lines)
            assert _basic(password) not in inspection + text_of(lines)


def _basic(password: str) -> str:
    return base64.b64encode(f"pusher:{password}".encode()).decode()


async def test_a_registry_that_does_not_answer_the_push_is_unavailable(
    docker: Engine, make: Make, registry: Registry, repository: Serve
) -> None:
    url, sha = repository("FROM scratch\nCOPY Dockerfile /\n")
    executor = make()
    attempt = attempt_at(registry, url, sha, image=f"127.0.0.1:{free_ports()}/team/x:{sha}")
    await executor.ensure(attempt)
    _, outcome, _ = await follow_to_end(executor, attempt)
    assert outcome.error_code == "registry_unavailable", outcome


async def test_a_step_that_fails_is_the_author_s_and_its_words_are_told(
    docker: Engine, make: Make, registry: Registry, repository: Serve
) -> None:
    executor = make()
    attempt = attempt_at(registry, *repository(f"FROM {docker.jupyter}\nRUN echo no such thing >&2; exit 3\n"))
    await executor.ensure(attempt)
    lines, outcome, _ = await follow_to_end(executor, attempt)
    assert outcome.error_code == "build_failed"
    assert "exit code: 3" in str(outcome.error_message)
    assert "no such thing" in text_of(lines)


async def test_a_repository_that_is_gone_can_t_be_fetched(make: Make, registry: Registry, repository: Serve) -> None:
    url, sha = repository("FROM scratch\n")
    executor = make()
    attempt = attempt_at(registry, f"{url}-is-gone", sha)
    await executor.ensure(attempt)
    _, outcome, _ = await follow_to_end(executor, attempt)
    assert outcome.error_code == "fetch_failed"
    assert "not found" in str(outcome.error_message)


async def test_a_builder_image_that_can_t_be_had_is_said(make: Make, registry: Registry) -> None:
    executor = make(builder_image=f"127.0.0.1:{free_ports()}/no/builder:1", docker_pull_seconds=20)
    with pytest.raises(BinderyError) as raised:
        await executor.ensure(attempt_at(registry, "http://127.0.0.1:1/org/none", "0" * 40))
    assert raised.value.code == "builder_image_unavailable"
    assert await executor.list() == []


async def test_an_engine_that_does_not_answer_is_unavailable(make: Make, registry: Registry, tmp_path: Path) -> None:
    for host in (f"unix://{tmp_path}/none.sock", f"tcp://127.0.0.1:{free_ports()}"):
        executor = make(docker_host=host)
        attempt = attempt_at(registry, "http://127.0.0.1:1/org/none", "0" * 40)
        with pytest.raises(ExecutorUnavailableError):
            await executor.ensure(attempt)
        with pytest.raises(ExecutorUnavailableError):
            await follow_to_end(executor, attempt)
        assert "does not answer" in str(await executor.health_problem())


# The contract


async def test_asked_by_two_at_once_an_attempt_is_started_once(
    docker: Engine, make: Make, registry: Registry, repository: Serve
) -> None:
    url, sha = repository("FROM scratch\nCOPY Dockerfile /\n")
    attempt = attempt_at(registry, url, sha)
    first = make()
    second = make()
    await asyncio.gather(*(executor.ensure(attempt) for executor in (first, second, first, second)))
    assert [execution.build_id for execution in await first.list()] == [attempt.build_id]
    (lines, outcome, _), (again, _, _) = await asyncio.gather(
        follow_to_end(first, attempt), follow_to_end(second, attempt)
    )
    assert outcome == Finished(ok=True)
    assert lines == again
    await first.ensure(attempt)
    assert [execution.is_alive for execution in await first.list()] == [False]
    await first.remove(attempt.build_id)
    assert await first.list() == []
    await first.remove(attempt.build_id)
    await first.stop(attempt)


async def test_an_adopter_s_epoch_is_told_and_the_one_before_stops_nothing(
    make: Make, registry: Registry, docker: Engine, repository: Serve
) -> None:
    attempt = attempt_at(registry, *repository(f"FROM {docker.base}\nRUN sleep 1000\n"))
    executor = make()
    await executor.ensure(attempt)
    adopted = replace(attempt, epoch=7)
    await executor.ensure(adopted)
    assert [(execution.epoch, execution.is_alive) for execution in await executor.list()] == [(7, True)]
    await executor.stop(attempt)
    await executor.remove(attempt.build_id)
    assert [execution.is_alive for execution in await executor.list()] == [True]
    await executor.stop(adopted)
    assert [execution.is_alive for execution in await executor.list()] == [False]
    await executor.remove(attempt.build_id)
    assert await executor.list() == []


async def test_a_new_container_is_not_taken_for_the_one_that_was_followed(
    docker: Engine, make: Make, registry: Registry, repository: Serve
) -> None:
    attempt = attempt_at(registry, *repository(f"FROM {docker.base}\nRUN sleep 1000\n"))
    executor = make()
    await executor.ensure(attempt)
    position = (await first_batch(executor, attempt)).position
    docker.docker("rm", "--force", f"bindery-{attempt.name}")
    await executor.ensure(attempt)
    with pytest.raises(ExecutionVanishedError):
        await follow_to_end(executor, attempt, position)
    assert await executor.list() == []


async def test_a_container_that_only_has_our_labels_is_not_taken_for_a_build(docker: Engine, make: Make) -> None:
    labels = [f"--label=bindery.installation={INSTALLATION}", "--label=bindery.execution=abc-1"]
    docker.docker("run", "--detach", "--name", "jupyter-of-a-user", *labels, docker.base, "sleep", "1000")
    executor = make()
    assert await executor.list() == []
    await executor.remove("abc-1")
    assert "jupyter-of-a-user" in docker.docker("ps", "--format", "{{.Names}}").split()


# Hostile output: a program in repo2docker's place, as the engine's own builder cuts what a step says


@pytest.fixture
def program(docker: Engine, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Make an image whose jupyter-repo2docker is this shell script."""
    name = "bindery-tests-program:1"

    def build(script: str) -> str:
        folder = tmp_path / "program"
        folder.mkdir(exist_ok=True)
        (folder / "jupyter-repo2docker").write_text(f"#!/bin/sh\n{script}")
        (folder / "jupyter-repo2docker").chmod(0o755)
        (folder / "Dockerfile").write_text(f"FROM {docker.builder}\nCOPY jupyter-repo2docker /usr/local/bin/\n")
        docker.docker("build", "--tag", name, str(folder))
        return name

    yield build
    docker.docker("rmi", "--force", name, is_checked=False)


async def test_hostile_output_is_survived_and_every_line_comes_once_after_a_break(
    make: Make, registry: Registry, program: Callable[[str], str]
) -> None:
    script = """printf 'a\\000b \\377\\376 \\033[31mred \\n'
printf '{"message": "\\\\ud800 lone\\\\n", "phase": "gap"}\\n'
printf '['; head -c 200000 /dev/zero | tr '\\0' '['; echo
printf '{"phase": "building", "message": "'; head -c 1048576 /dev/zero | tr '\\0' y; printf '\\\\n"}\\n'
head -c 5000000 /dev/zero | tr '\\0' z; echo
seq --format='{"message": "line-%.0f\\n", "phase": "building"}' 120000
printf 'without an end'
"""
    executor = make(builder_image=program(script))
    attempt = attempt_at(registry, "http://127.0.0.1:1/org/none", "0" * 40)
    await executor.ensure(attempt)
    position = await until_line(executor, attempt, "line-5000\n")
    rest, outcome, _ = await follow_to_end(executor, attempt, position)
    whole, _, _ = await follow_to_end(executor, attempt)
    assert outcome == Finished(ok=True)
    messages = [line.message for line in whole]
    assert messages[1] == "a\ufffdb \ufffd\ufffd \x1b[31mred \n"
    assert messages[2] == "? lone\n"
    cut = [message for message in messages if "The line is cut" in message]
    assert [message[0] for message in cut] == ["[", "y", "z"]
    assert all(len(message) < 17_000 for message in messages)
    assert [message for message in messages if message.startswith("line-")] == [
        f"line-{n}\n" for n in range(1, 120_001)
    ]
    assert {line.phase for line in whole} <= {"fetching", "building"}
    assert messages[-1] == "without an end\n"
    assert whole[-len(rest) :] == rest


async def test_a_rotated_log_is_told_as_a_gap(
    docker: Engine, make: Make, registry: Registry, program: Callable[[str], str]
) -> None:
    script = "seq --format='early-%.0f' 3\nuntil [ -e /go ]; do sleep 0.1; done\nseq 60000\n"
    executor = make(builder_image=program(script), docker_log_max_bytes=1_000_000)
    attempt = attempt_at(registry, "http://127.0.0.1:1/org/none", "0" * 40)
    await executor.ensure(attempt)
    position = await until_line(executor, attempt, "early-3")
    docker.docker("exec", f"bindery-{attempt.name}", "touch", "/go")
    docker.docker("wait", f"bindery-{attempt.name}")
    for start in (position, ""):
        lines, outcome, _ = await follow_to_end(executor, attempt, start)
        assert outcome == Finished(ok=True)
        assert [line.phase for line in lines].count("gap") == 1
        assert lines[0].phase == "gap"
        assert lines[-1].message == "60000\n"


async def test_git_credentials_reach_git_for_their_host_alone_and_stand_nowhere_in_clear(
    docker: Engine, make: Make, registry: Registry, program: Callable[[str], str]
) -> None:
    script = """for host in git.example.org evil.example.org; do
  printf 'protocol=https\\nhost=%s\\n\\n' $host | git credential fill 2>&1 | sed 's/s3cret/(the password)/'
done
tr '\\0' '\\n' < /proc/1/cmdline
"""
    credentials = json.dumps({"git.example.org": "username=reader\\npassword=s3cret"})
    executor = make(builder_image=program(script), git_credentials=credentials)
    attempt = attempt_at(registry, "https://git.example.org/org/private", "0" * 40)
    await executor.ensure(attempt)
    lines, outcome, _ = await follow_to_end(executor, attempt)
    assert outcome == Finished(ok=True)
    text = text_of(lines)
    assert text.count("username=reader\npassword=(the password)") == 1, text
    assert "terminal prompts disabled" in text
    assert "s3cret" not in docker.docker("inspect", f"bindery-{attempt.name}") + text
