"""repo2docker as a program: what it is told, and what is made of what it says (the words are its own, of 2026.4.0)."""

import json
import subprocess

import pytest

from services.builder.executors.base import Attempt, Line
from services.builder.executors.docker.container import FIRST
from services.builder.executors.docker.logs import GAP, Position, Unfolding
from services.builder.executors.docker.settings import DockerSettings
from services.builder.executors.outcomes import outcome
from services.builder.executors.repo2docker import arguments, config_text, environment, line
from services.builder.settings import BuilderSettings
from services.common.errors import BinderyError

SHA = "0123456789abcdef0123456789abcdef01234567"
PUSH = " > pushing 127.0.0.1:5000/t/ok:1 with docker:"
CRASH = "Error during build: Command '['docker', 'buildx', 'build', '/tmp/x']' returned non-zero exit status 1."
SOLVE = "ERROR: failed to solve:"
DIAL = 'ERROR: Get "http://127.0.0.1:5999/v2/": dial tcp 127.0.0.1:5999: connect: connection refused'
CUT = " [The line is cut: it is longer than 100 bytes]\n"
NO_CLONE = "Error during build: Failed to clone repository from http://x."
NO_RESET = "Error during build: Command '['git', 'reset', '--hard', '111']' returned non-zero exit status 128."
NO_DOCKER = "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


def attempt(**fields: object) -> Attempt:
    known: dict[str, object] = {
        "build_id": "abc-1", "image": "registry.example.org/team/x:1", "repo_url": "https://git.example.org/org/x",
        "ref": SHA, "epoch": 1, "labels": (("a.b", "c"),),
    }  # fmt: skip
    return Attempt(**(known | fields))  # type: ignore[arg-type]


def settings(**fields: object) -> BuilderSettings:
    return BuilderSettings.model_validate(fields)


# What it is told


def test_the_command_line_is_binderhub_s() -> None:
    given = arguments(
        attempt(),
        settings(repo2docker_appendix="RUN true", repo2docker_extra_args="--subdir 'a b'"),
        config_path="/c.py",
    )
    assert given == [
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


def test_git_credentials_are_secret_and_asked_for_by_git_for_their_host_alone() -> None:
    known = settings(git_credentials=json.dumps({"git.example.org": r"username=reader\npassword=s3cret"}))
    made = environment(attempt(), known)
    assert "s3cret" not in json.dumps(made.plain) + repr(made)
    answers = {host: _asked_by_git(host, made.plain | made.secret) for host in ("git.example.org", "evil.example.org")}
    assert "username=reader\npassword=s3cret" in answers["git.example.org"]
    assert "s3cret" not in answers["evil.example.org"]
    assert environment(attempt(repo_url="https://elsewhere.example.org/x"), known).secret == {}
    with pytest.raises(BinderyError):
        environment(attempt(), settings(git_credentials="no JSON"))


def _asked_by_git(host: str, variables: dict[str, str]) -> str:
    return subprocess.run(
        ["git", "credential", "fill"], input=f"protocol=https\nhost={host}\n\n", capture_output=True, text=True,
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
    assert line(raw + b"\n", max_bytes=1000) == Line(expected, message)


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
    made = line(raw, max_bytes=100)
    assert made == Line("building", expected)
    assert made.message.encode()


@pytest.mark.parametrize("kept", range(780, 800))
def test_a_message_whose_end_is_missing_is_read_up_to_there(kept: int) -> None:
    raw = json.dumps({"message": "\N{GRINNING FACE}é\n" * 200, "phase": "building"}).encode()[:kept]
    message = line(raw, max_bytes=97).message
    assert message.startswith("\N{GRINNING FACE}é\n\N{GRINNING FACE}")


# How it ended


def _outcome(*messages: str, exit_code: int = 1, **fields: object) -> tuple[str | None, str]:
    """Of what repo2docker says itself, without a phase or as `failed`, and of what the engine or git say."""
    tail = []
    for message in messages:
        phase = "failed" if message.startswith("Error during") else None
        phase = "building" if message.startswith(("#", "Cloning", "ERROR", "---", " >")) else phase
        tail.append(json.dumps({"message": f"{message}\n"} | ({"phase": phase} if phase else {})).encode())
    ended = outcome(exit_code, tail, **fields)  # type: ignore[arg-type]
    return ended.error_code, ended.error_message or ""


def test_an_exit_code_of_zero_is_success() -> None:
    assert outcome(0, []).ok


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("ERROR: no basic auth credentials", "push_denied"),
        ("ERROR: unauthorized: authentication required", "push_denied"),
        ("ERROR: denied: requested access to the resource is denied", "push_denied"),
        ("ERROR: manifest invalid", "push_denied"),
        (DIAL, "registry_unavailable"),
        ("ERROR: received unexpected HTTP status: 503 Service Unavailable", "registry_unavailable"),
        ("ERROR: Get https://x/v2/: net/http: TLS handshake timeout", "registry_unavailable"),
    ],
)  # fmt: skip
def test_a_failed_push_is_never_the_author_s(error: str, code: str) -> None:
    found, message = _outcome("#9 " + error, "------", PUSH, "------", error, CRASH)
    assert found == code
    assert error.removeprefix("ERROR: ") in message


def test_a_push_by_a_buildkit_of_its_own_is_known_by_its_words() -> None:
    error = "ERROR: failed to solve: failed to push r.example.org/x:1: unexpected status: 401 Unauthorized"
    assert _outcome("------", " > exporting to image:", "------", error, CRASH)[0] == "push_denied"


@pytest.mark.parametrize(
    "error",
    [
        "ERROR: failed to solve: executor failed running [/bin/sh -c x]: exit code: 137",
        'ERROR: failed to solve: process "/bin/sh -c x" did not complete successfully: exit code: 137',
        'ERROR: failed to solve: ResourceExhausted: process "/bin/sh -c x" did not complete successfully: '
        "cannot allocate memory",
    ],
)
def test_a_step_killed_for_memory_names_the_engine_s_limit(error: str) -> None:
    # In version 1 of cgroups the engine then says so of every container below the same limit.
    code, message = _outcome(error, CRASH, is_out_of_memory=True, memory_limit="2Gi")
    assert code == "build_out_of_memory"
    assert "engine" in message
    assert "2Gi" not in message


@pytest.mark.parametrize(
    ("before", "error", "code"),
    [
        ("before", "The command '/bin/sh -c exit 3' returned a non-zero code: 3", "build_failed"),
        ("\x1b[91mKilled", "The command '/bin/sh -c x' returned a non-zero code: 137", "build_out_of_memory"),
        ("Step 1/4 : FROM r.example.org/no:1", "manifest for r.example.org/no:1 not found", "build_failed"),
        ("Successfully tagged r.example.org/x:1", DIAL.removeprefix("ERROR: "), "registry_unavailable"),
        ("Successfully tagged r.example.org/x:1", "no basic auth credentials", "push_denied"),
    ],
)
def test_the_classic_builder_of_repo2docker_2024_is_understood(before: str, error: str, code: str) -> None:
    said = [{"message": f"{before}\n", "phase": "building"}, {"message": error, "phase": "failed"}]
    ended = outcome(1, [json.dumps(one).encode() for one in said])
    assert (ended.error_code, error in str(ended.error_message)) == (code, True)


def test_repo2docker_killed_for_memory_names_its_own_limit() -> None:
    code, message = _outcome("Cloning", exit_code=137, is_out_of_memory=True, memory_limit="2Gi")
    assert (code, "2Gi" in message) == ("build_out_of_memory", True)
    git = "Error during build: Command '['git', 'clone']' died with <Signals.SIGKILL: 9>."
    assert _outcome(git, is_out_of_memory=True, memory_limit="2Gi")[0] == "build_out_of_memory"


@pytest.mark.parametrize(
    ("messages", "exit_code", "code", "words"),
    [
        ([f"{SOLVE} executor failed running [/bin/sh -c x]: exit code: 3", CRASH], 1, "build_failed", "exit code: 3"),
        ([f"{SOLVE} 127.0.0.1:5000/no/base:1: not found", CRASH], 1, "build_failed", "no/base:1: not found"),
        (
            [f"{SOLVE} write /var/lib/docker/tmp/x: no space left on device", CRASH],
            1,
            "engine_failed",
            "no space left on device",
        ),
        (
            [f"{SOLVE} process x: failed to create endpoint on network bridge: could not find bridge docker0", CRASH],
            1,
            "engine_failed",
            "docker0",
        ),
        (["fatal: repository 'http://x/' not found", NO_CLONE], 1, "fetch_failed", "fatal: repository"),
        (["fatal: Could not parse object '111'.", NO_RESET], 1, "fetch_failed", "Could not parse"),
        (["Failed to check out ref x", "Error during build: Failed to check out ref x"], 1, "fetch_failed", "ref x"),
        (["No environment specification found."], 1, "build_failed", "No environment"),
        ([NO_DOCKER], 1, "build_lost", "Cannot connect"),
        (["Cloning into '/tmp/x'..."], 137, "build_lost", "137"),
        (["#5 0.169 in the middle"], 1, "build_lost", "without saying why"),
        (["Subdirectory x does not exist"], 1, "build_failed", "Subdirectory x"),
        (["sh: exec: line 4: jupyter-repo2docker: not found"], 127, "builder_image_unavailable", "not found"),
        (["Error during build: The buildx plugin must be installed: ..."], 1, "builder_image_unavailable", "buildx"),
        (["jupyter-repo2docker: error: argument --user-id: invalid int value"], 2, "internal", "--user-id"),
        ([], 1, "build_lost", "without saying why"),
    ],
)  # fmt: skip
def test_the_reason_of_a_failure_is_in_its_last_words(
    messages: list[str], exit_code: int, code: str, words: str
) -> None:
    found, message = _outcome(*messages, exit_code=exit_code)
    assert (found, words in message) == (code, True), message


# An engine's log


def _frames(*lines: tuple[str, bytes]) -> bytes:
    payloads = [f"2026-11-23T23:12:0{second}Z ".encode() + text for second, text in lines]
    return b"".join(b"\1\0\0\0" + len(payload).to_bytes(4) + payload for payload in payloads)


def _told(position: Position, content: bytes, step: int) -> tuple[list[str], Position]:
    unfolding = Unfolding(position, first=FIRST, line_max_bytes=1000)
    found = [one for at in range(0, len(content), step) for one in unfolding.feed(content[at : at + step])]
    return [f"{one.phase} {one.message}" for one in found], unfolding.position


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_log_is_told_on_from_any_line_wherever_its_bytes_are_split(step: int) -> None:
    at = "0.000000001"
    frames = [(at, FIRST + b"\n"), (at, b"one\n"), (at, b"long "), (at, b"line\n"), ("1.5", b"two\n")]
    whole, end = _told(Position("id"), _frames(*frames), step)
    assert [told.partition(" ")[2] for told in whole[1:]] == ["one\n", "long line\n", "two\n"]
    assert Position.parse(str(end)) == end
    positions = [_told(Position("id"), _frames(*frames[:count]), step)[1] for count in (1, 2, 3, 4)]
    for position, left in zip(positions, (3, 2, 2, 1), strict=True):
        assert _told(position, _frames(*frames), step)[0] == whole[-left:], position


def test_a_log_whose_beginning_is_gone_is_told_with_a_gap() -> None:
    gap = f"gap {GAP}"
    assert _told(Position("id"), _frames(("1.0", b"late\n")), 100)[0] == [gap, "building late\n"]
    known = _told(Position("id"), _frames(("1.0", FIRST + b"\n")), 100)[1]
    assert _told(known, _frames(("2.0", b"late\n")), 100)[0] == [gap, "building late\n"]


@pytest.mark.parametrize(
    ("text", "expected"), [("", 0), ("512Mi", 2**29), ("2G", 2 * 10**9), ("1.5gi", 3 * 2**29), ("7", 7)]
)
def test_a_quantity_of_memory_is_bytes(text: str, expected: int) -> None:
    assert DockerSettings(build_memory_limit=text).memory_bytes == expected
    with pytest.raises(ValueError, match="memory is a number"):
        DockerSettings(build_memory_limit="much")
