"""repo2docker as a program: its command line, and how its output is read (the words are its own, of 2026.4.0)."""

import json
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.builder.executors.base import Attempt, Line
from services.builder.executors.docker.container import FIRST_LINE
from services.builder.executors.docker.logs import GAP, ContainerLogDecoder, ContainerLogPosition
from services.builder.executors.docker.settings import DockerSettings
from services.builder.executors.repo2docker import arguments, config_text, environment, log_line
from services.builder.executors.repo2docker_guard import refuse_links_outside
from services.builder.settings import BuilderSettings
from services.common.models.errors import BinderyError
from services.common.net.credential import ScopedCredential
from tests.support.settings import settings_for

SHA = "0123456789abcdef0123456789abcdef01234567"
CUT = " [The line is cut: it is longer than 100 bytes]\n"


def attempt(**fields: object) -> Attempt:
    defaults: dict[str, object] = {
        "build_id": "abc-1", "image": "registry.example.org/team/x:1", "repo_url": "https://git.example.org/org/x",
        "ref": SHA, "epoch": 1, "labels": (("a.b", "c"),),
    }  # fmt: skip
    return Attempt(**(defaults | fields))  # type: ignore[arg-type]


def settings(**fields: object) -> BuilderSettings:
    return settings_for(BuilderSettings, fields)


# What it is told


def test_the_command_line_is_binderhub_s() -> None:
    command = arguments(
        attempt(),
        settings(repo2docker_appendix="RUN true", repo2docker_extra_args="--subdir 'a b'"),
        config_path="/c.py",
    )
    assert command == [
        f"--ref={SHA}", "--image-name=registry.example.org/team/x:1", "--no-clean", "--no-run", "--json-logs",
        "--user-name=jovyan", "--user-id=1000", "--config=/c.py", "--appendix=RUN true", "--push", "--label=a.b=c",
        "--subdir", "a b", "--", "https://git.example.org/org/x",
    ]  # fmt: skip
    assert "--push" not in arguments(attempt(), settings(build_push=False), config_path="/c.py")


@pytest.mark.parametrize("fields", [{"repo_url": "--config=/etc/x"}, {"ref": "--upload-pack=x"}, {"repo_url": "a\0b"}])
def test_neither_repository_nor_ref_can_be_an_option(fields: dict[str, object]) -> None:
    with pytest.raises(BinderyError) as raised:
        arguments(attempt(**fields), settings(), config_path="/c.py")
    assert raised.value.code == "bad_spec"


def test_only_the_named_content_provider_may_fetch() -> None:
    text = config_text(attempt(content_provider="Zenodo"), settings(repo2docker_extra_config="c.Repo2Docker.debug = 1"))
    compile(text, "config", "exec")
    assert "c.Repo2Docker.content_providers = [Zenodo]" in text
    assert "c.Repo2Docker.debug = 1" in text
    assert "--load" not in text
    assert "--load" in config_text(attempt(), settings(build_push=False))
    for name in ("Local", "Git]; import os; [Git"):
        with pytest.raises(BinderyError):
            config_text(attempt(content_provider=name), settings())


def test_what_is_fetched_is_looked_at_before_repo2docker_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    class Provider:
        def fetch(self, _spec: object, output_dir: str, yield_output: bool = False) -> Iterator[str]:
            fetched.append(output_dir)
            yield "fetched\n"

    packages = types.ModuleType("repo2docker"), types.ModuleType("repo2docker.contentproviders")
    packages[1].Git = Provider  # type: ignore[attr-defined]
    for package in packages:
        monkeypatch.setitem(sys.modules, package.__name__, package)
    config: Any = types.SimpleNamespace(Repo2Docker=types.SimpleNamespace(), DockerEngine=types.SimpleNamespace())
    exec(config_text(attempt(), settings()), {"c": config})  # noqa: S102 - as repo2docker reads it
    [checked] = config.Repo2Docker.content_providers
    (tmp_path / "apt.txt").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match=r"^apt.txt is a link that leads out of the repository"):
        list(checked().fetch({}, str(tmp_path)))
    assert fetched == [str(tmp_path)]


@pytest.mark.parametrize(
    ("name", "target", "is_refused"),
    [
        ("apt.txt", "/root/.docker/config.json", True),
        ("binder/runtime.txt", "../../outside", True),
        (".binder", "/root/.docker", True),
        ("binder", "..", True),
        ("environment.yml", "/proc/self/environ", True),
        ("requirements.txt", "binder/all.txt", False),
        ("binder/apt.txt", "../packages.txt", False),
        ("binder", "environments/one", False),
        ("requirements.txt", "/home/ann/requirements.txt", True),
        (".dockerignore", "/root/.docker/config.json", True),
        ("Dockerfile.dockerignore", "../outside", True),
        ("data.csv", "not-there.csv", False),
        ("data", "/home/ann/data", False),
        ("binder/data", "/home/ann/data", False),
        ("start", "start", False),
    ],
)
def test_only_links_that_lead_out_of_a_repository_are_refused(
    tmp_path: Path, name: str, target: str, is_refused: bool
) -> None:
    checkout = tmp_path / "checkout"
    (checkout / name).parent.mkdir(parents=True)
    (checkout / name).symlink_to(target)
    if is_refused:
        with pytest.raises(ValueError, match=f"^{re.escape(name)} is a link"):
            refuse_links_outside(str(checkout))
    else:
        refuse_links_outside(str(checkout))


def test_git_credentials_are_secret_and_asked_for_by_git_for_their_host_alone() -> None:
    operator = settings(git_credentials=json.dumps({"git.example.org": r"username=reader\npassword=s3cret"}))
    variables = environment(attempt(), operator)
    assert "s3cret" not in json.dumps(variables.plain) + repr(variables)
    answers = {
        host: _git_answer(host, variables.plain | variables.secret) for host in ("git.example.org", "evil.example.org")
    }
    assert "username=reader\npassword=s3cret" in answers["git.example.org"]
    assert "s3cret" not in answers["evil.example.org"]
    assert environment(attempt(repo_url="https://elsewhere.example.org/x"), operator).secret == {}
    with pytest.raises(BinderyError):
        environment(attempt(), settings(git_credentials="no JSON"))


def test_an_attempts_credential_is_asked_for_by_git_for_its_repository_alone() -> None:
    login = ScopedCredential(scope="https://git.example.org/org/repo", username="ann", password=r"s3c\ret%")
    variables = environment(attempt(credential=login), settings())
    assert "s3c" not in json.dumps(variables.plain) + repr(variables)
    answers = {
        path: _git_answer("git.example.org", variables.plain | variables.secret, path)
        for path in ("org/repo", "org/repo.git", "org/repo/deeper", "org/other", "")
    }
    right = {path for path, answer in answers.items() if "username=ann\npassword=s3c\\ret%\n" in answer}
    assert right == {"org/repo", "org/repo.git", "org/repo/deeper"}
    assert not any("s3c" in answers[path] for path in ("org/other", ""))


def _git_answer(host: str, variables: dict[str, str], path: str = "") -> str:
    asked = f"protocol=https\nhost={host}\npath={path}\n\n"
    return subprocess.run(
        ["git", "credential", "fill"], input=asked, capture_output=True, text=True,
        check=False, env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"} | variables,
    ).stdout  # fmt: skip


# What it says


@pytest.mark.parametrize(
    ("message", "phase", "expected"),
    [
        ("Picked Git content provider.\n", None, "fetching"),
        ("Cloning into '/tmp/x'...\n", "fetching", "fetching"),
        ("#5 0.169 pushing layers\n", "building", "building"),
        ("#8 exporting to image\n", "building", "pushing"),
        ("#8 exporting layers 0.0s done\n", "building", "pushing"),
        ("#9 pushing layer 664c0612e68e 7.06MB / 116.97MB 0.4s\n", "building", "pushing"),
        ("#12 pushing manifest for registry.example.org/x:1\n", "building", "pushing"),
        ("Pushing image\n", "pushing", "pushing"),
        ("anything\n", "gap", "building"),
        ("anything\n", ["pushing"], "building"),
    ],
)
def test_lines_have_the_phase_of_what_goes_on(message: str, phase: object, expected: str) -> None:
    raw = json.dumps({"message": message} | ({"phase": phase} if phase else {})).encode()
    assert log_line(raw + b"\n", max_bytes=1000) == Line(expected, message)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"plain", "plain\n"),
        (b"a\0b \xff\n", "a\ufffdb \ufffd\n"),
        (b'{"message": "\\ud800"}\n', "?\n"),
        (b'{"message": 5}\n', "\n"),
        (b'{"message"\n', '{"message"\n'),
        (b"[" * 3000 + b"\n", "[" * 100 + CUT),
        (
            b'{"message": ' + b"[" * 700 + b"\n",
            '{"message": ' + "[" * 88 + CUT,
        ),
        (b'{"message": "' + b"\\u00e4" * 500, "ä" * 50 + CUT),
        (b"", "\n"),
    ],
)
def test_any_bytes_are_a_line(raw: bytes, expected: str) -> None:
    line = log_line(raw, max_bytes=100)
    assert line == Line("building", expected)
    assert line.message.encode()


@pytest.mark.parametrize("length", range(780, 800))
def test_a_message_whose_end_is_missing_is_read_up_to_there(length: int) -> None:
    raw = json.dumps({"message": "\N{GRINNING FACE}é\n" * 200, "phase": "building"}).encode()[:length]
    message = log_line(raw, max_bytes=97).message
    assert message.startswith("\N{GRINNING FACE}é\n\N{GRINNING FACE}")


# An engine's log


def _frames(*lines: tuple[str, bytes]) -> bytes:
    payloads = [f"2026-11-23T23:12:0{second}Z ".encode() + text for second, text in lines]
    return b"".join(b"\1\0\0\0" + len(payload).to_bytes(4) + payload for payload in payloads)


def decode(position: ContainerLogPosition, content: bytes, step: int) -> tuple[list[str], ContainerLogPosition]:
    unfolding = ContainerLogDecoder(position, first=FIRST_LINE, line_max_bytes=1000)
    lines = [line for at in range(0, len(content), step) for line in unfolding.feed(content[at : at + step])]
    return [f"{line.phase} {line.message}" for line in lines], unfolding.position


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_log_is_told_on_from_any_line_wherever_its_bytes_are_split(step: int) -> None:
    at = "0.000000001"
    frames = [(at, FIRST_LINE + b"\n"), (at, b"one\n"), (at, b"long "), (at, b"line\n"), ("1.5", b"two\n")]
    whole, end = decode(ContainerLogPosition("id"), _frames(*frames), step)
    assert [line.partition(" ")[2] for line in whole[1:]] == ["one\n", "long line\n", "two\n"]
    assert ContainerLogPosition.parse(str(end)) == end
    positions = [decode(ContainerLogPosition("id"), _frames(*frames[:count]), step)[1] for count in (1, 2, 3, 4)]
    for position, remaining in zip(positions, (3, 2, 2, 1), strict=True):
        assert decode(position, _frames(*frames), step)[0] == whole[-remaining:], position


def test_a_last_line_without_an_end_is_told_at_the_end_once() -> None:
    first = _frames(("0.5", FIRST_LINE + b"\n"))
    last = _frames(("1.0", b"half "), ("1.0", b"a line"))
    unfolding = ContainerLogDecoder(ContainerLogPosition("id"), first=FIRST_LINE, line_max_bytes=1000)
    assert [line.message for line in unfolding.feed(first + last)] == ["Starting repo2docker ...\n"]
    assert [line.message for line in unfolding.end()] == ["half a line\n"]
    assert unfolding.end() == []
    again = ContainerLogDecoder(unfolding.position, first=FIRST_LINE, line_max_bytes=1000)
    assert again.feed(last) + again.end() == []


def test_a_log_whose_beginning_is_gone_is_told_with_a_gap() -> None:
    gap = f"gap {GAP}"
    assert decode(ContainerLogPosition("id"), _frames(("1.0", b"late\n")), 100)[0] == [gap, "building late\n"]
    position = decode(ContainerLogPosition("id"), _frames(("1.0", FIRST_LINE + b"\n")), 100)[1]
    assert decode(position, _frames(("2.0", b"late\n")), 100)[0] == [gap, "building late\n"]


@pytest.mark.parametrize(
    ("text", "expected"), [("", 0), ("512Mi", 2**29), ("2G", 2 * 10**9), ("1.5gi", 3 * 2**29), ("7", 7)]
)
def test_a_quantity_of_memory_is_bytes(text: str, expected: int) -> None:
    assert DockerSettings(build_memory_limit=text).memory_bytes == expected
    with pytest.raises(ValueError, match="memory is a number"):
        DockerSettings(build_memory_limit="much")
