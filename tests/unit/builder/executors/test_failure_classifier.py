"""How a build by repo2docker ended: read from its last words, which are those of 2026.4.0 and 2024.07."""

import json

import pytest

from services.builder.executors.failure_classifier import classify_exit

PUSH = " > pushing 127.0.0.1:5000/t/ok:1 with docker:"
CRASH = "Error during build: Command '['docker', 'buildx', 'build', '/tmp/x']' returned non-zero exit status 1."
SOLVE = "ERROR: failed to solve:"
DIAL = 'ERROR: Get "http://127.0.0.1:5999/v2/": dial tcp 127.0.0.1:5999: connect: connection refused'
NO_CLONE = "Error during build: Failed to clone repository from http://x."
NO_RESET = "Error during build: Command '['git', 'reset', '--hard', '111']' returned non-zero exit status 128."
NO_DOCKER = "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


def _outcome(*messages: str, exit_code: int = 1, **fields: object) -> tuple[str | None, str]:
    """Of what repo2docker says itself, without a phase or as `failed`, and of what the engine or git say."""
    tail = []
    for message in messages:
        phase = "failed" if message.startswith("Error during") else None
        phase = "building" if message.startswith(("#", "Cloning", "ERROR", "---", " >")) else phase
        tail.append(json.dumps({"message": f"{message}\n"} | ({"phase": phase} if phase else {})).encode())
    outcome = classify_exit(exit_code, tail, **fields)  # type: ignore[arg-type]
    return outcome.error_code, outcome.error_message or ""


def test_an_exit_code_of_zero_is_success() -> None:
    assert classify_exit(0, []).ok


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
    outcome_code, message = _outcome("#9 " + error, "------", PUSH, "------", error, CRASH)
    assert outcome_code == code
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
    ("exit_code", "lines", "code", "words"),
    [
        (1, [], "build_failed", "the end of the log, with the reason, is missing"),
        (1, ["#5 0.169 in the middle"], "build_failed", "is missing"),
        (2, [], "build_failed", "is missing"),
        (1, [NO_DOCKER, CRASH], "build_lost", "Cannot connect"),
        (137, [], "build_lost", "137"),
        (127, [], "builder_image_unavailable", "no repo2docker"),
    ],
)
def test_a_failure_whose_reason_could_not_be_read_is_judged_by_its_exit_status_and_what_was_read(
    exit_code: int, lines: list[str], code: str, words: str
) -> None:
    outcome_code, message = _outcome(*lines, exit_code=exit_code, is_tail_read=False)
    assert (outcome_code, words in message) == (code, True), message


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
    messages = [{"message": f"{before}\n", "phase": "building"}, {"message": error, "phase": "failed"}]
    outcome = classify_exit(1, [json.dumps(message).encode() for message in messages])
    assert (outcome.error_code, error in str(outcome.error_message)) == (code, True)


def _failed_step(command: str, printed: str = "", exit_code: int = 3) -> tuple[str, ...]:
    """What buildx 0.13 says of a step that fails: its output, that again between dashes, its text, and the error."""
    why = f'process "/bin/sh -c {command}" did not complete successfully: exit code: {exit_code}'
    return (
        f"#5 [2/2] RUN {command}", *(f"#5 0.169 {line}" for line in printed.split("\r")[:1]), *printed.split("\r")[1:],
        f"#5 ERROR: {why}", "------", f" > [2/2] RUN {command}:", f"0.169 {printed}", "------", "Dockerfile:2",
        f"   2 | >>> RUN {command}", "--------------------", f"{SOLVE} {why}",
    )  # fmt: skip


def _outcome_of_build(*messages: str, **fields: object) -> str | None:
    """Of what `docker buildx build` prints, each line in phase `building`, before repo2docker says that it failed."""
    tail = [json.dumps({"message": f"{message}\n", "phase": "building"}).encode() for message in messages]
    tail.append(json.dumps({"message": CRASH, "phase": "failed"}).encode())
    return classify_exit(1, tail, **fields).error_code  # type: ignore[arg-type]


SAYINGS = [
    "error during connect: no", "Cannot connect to the Docker daemon", "rpc error: code = Unavailable desc = x",
    "foo must be installed", "failed to push x", "failed to push x: timeout", "ERROR: failed to push x: timeout",
    "error: denied", "exit code: 137", "no space left on device", "input/output error", "SIGKILL",
    "Successfully tagged x", "cannot allocate memory", "> pushing x with docker:",
    "Error during build: Failed to clone",
    '\\" did not complete successfully: failed to push \\"x', "]: exit code: 137",
]  # fmt: skip


@pytest.mark.parametrize("saying", SAYINGS)
def test_what_a_failing_step_prints_or_has_in_its_command_is_not_taken_for_the_engine_s(saying: str) -> None:
    smuggled = f"x\r{saying}"  # repo2docker begins a line of its own at each carriage return
    for lines in (_failed_step(f"echo {saying}; exit 3"), _failed_step("x", saying), _failed_step("x", smuggled)):
        assert _outcome_of_build(*lines) == "build_failed", lines
        assert _outcome_of_build(*lines, is_out_of_memory=True, memory_limit="2Gi") == "build_failed", lines
    assert _outcome_of_build(*_failed_step(f"echo {saying}; exit 3", saying, 137)) == "build_out_of_memory"


@pytest.mark.parametrize("saying", SAYINGS)
def test_a_step_of_docker_20_s_buildkit_may_have_lines_of_any_kind_in_its_command(saying: str) -> None:
    error = f"{SOLVE} executor failed running [sh -c x\n{saying}\nERROR: {saying}; exit 3]: exit code: 3"
    assert _outcome_of_build(*error.split("\n")) == "build_failed"


@pytest.mark.parametrize("saying", SAYINGS)
def test_what_a_step_printed_before_another_failed_is_not_taken_for_the_engine_s(saying: str) -> None:
    error = f'{SOLVE} failed to compute cache key: "/{saying}": not found'
    printed = (f"#5 0.169 {saying}", saying)
    dashes = ("------", " > [3/3] COPY x /:", "------", "Dockerfile:3", f"   2 | RUN echo {saying}", "----")
    assert _outcome_of_build(*printed, *dashes, error) == "build_failed"
    fake = 'ERROR: process "x" did not complete successfully: context canceled'
    assert _outcome_of_build(fake, *dashes, error) == "build_failed"


@pytest.mark.parametrize("saying", SAYINGS)
def test_what_a_step_of_the_classic_builder_prints_is_not_taken_for_the_engine_s(saying: str) -> None:
    for error in (f"The command '/bin/sh -c {saying}' returned a non-zero code: 3", "COPY failed: no such file"):
        lines = ["Step 1/3 : RUN x", saying, "Step 2/3 : COPY x /"]
        tail = [json.dumps({"message": line, "phase": "building"}).encode() for line in lines]
        tail.append(json.dumps({"message": error, "phase": "failed"}).encode())
        assert classify_exit(1, tail).error_code == "build_failed"


def test_the_name_of_an_image_does_not_say_that_its_registry_is_away() -> None:
    error = f"{SOLVE} failed to push r.example.org/org-timeout-unavailable:1: unexpected status: 401 Unauthorized"
    assert _outcome(error, CRASH)[0] == "push_denied"


@pytest.mark.parametrize(
    ("why", "code"),
    [("context canceled", "build_lost"), ("failed to create endpoint on network bridge", "engine_failed")],
)
def test_a_step_that_the_engine_could_not_go_on_with_is_not_the_author_s(why: str, code: str) -> None:
    error = f'{SOLVE} process "/bin/sh -c failed to push" did not complete successfully: {why}'
    assert _outcome(error, CRASH)[0] == code


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (
            "Error response from daemon: login attempt to http://r/v2/ failed with status: 401 Unauthorized",
            "push_denied",
        ),
        ("Error response from daemon: dial tcp 127.0.0.1:1: connect: connection refused", "registry_unavailable"),
    ],
)
def test_a_login_that_repo2docker_makes_itself_fails_as_a_push_does(answer: str, code: str) -> None:
    crash = "Error during build: Command '['docker', 'login', '--username', 'x']' returned non-zero exit status 1."
    outcome = classify_exit(1, [answer.encode(), json.dumps({"message": crash, "phase": "failed"}).encode()])
    assert (outcome.error_code, answer in str(outcome.error_message)) == (code, True)


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
    outcome_code, message = _outcome(*messages, exit_code=exit_code)
    assert (outcome_code, words in message) == (code, True), message


def test_a_flood_that_looks_like_many_errors_is_soon_read() -> None:
    """Were all of it searched, this would take minutes, and the worker would lose its builds meanwhile."""
    flood = 'ERROR: process "\n' * 2000
    tail = [json.dumps({"message": flood, "phase": "building"}).encode()] * 98
    tail.append(json.dumps({"message": "COPY failed: no such file", "phase": "failed"}).encode())
    assert classify_exit(1, tail).error_code == "build_failed"
