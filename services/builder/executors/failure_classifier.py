"""The classification of a failed execution of repo2docker, by its exit status and the last lines of its output.

The patterns match the sentences of jupyter-repo2docker 2026.4.0 with git and buildx (Docker Engine 20.10, or a BuildKit
of its own), and of 2024.07, BinderHub's default, with the classic builder.

Much of that output is an author's: what steps print, and the commands and names that errors quote. It is never searched
for sentences of an engine or a registry; otherwise authors could make their own failure look like the operator's, and
have it run again.
"""

import re
from collections.abc import Sequence

from services.builder.executors.base import Finished
from services.builder.executors.repo2docker import read_message

TAIL_LINES = 100
"""How many of the last lines are enough for the classification."""

END_IS_MISSING = "the end of the log, with the reason, is missing"
"""In the sentence about a failure whose reason could not be read."""
_KILLED = (137, 143)
_NO_PROGRAM = (126, 127)
_AT_WORK = ("fetching", "building", "pushing")
_OUT_OF_MEMORY_STEP = re.compile(r"(exit code|non-zero code): 137\b|cannot allocate memory")
_NO_ENGINE = re.compile(
    r"Cannot connect to the Docker daemon|error during connect|rpc error: code = Unavailable"
    r"|error reading from server: EOF|failed to receive status|context canceled"
)
_ENGINE_FAILED = re.compile(
    r"no space left on device|failed to create endpoint|could not find bridge|failed to set up container networking"
    r"|error creating overlay mount|failed to mount|input/output error"
)
_PUSH_STEP = re.compile(r"> (pushing |exporting to image)")
_PUSH = re.compile(
    r"(ERROR|error): (failed to (build|solve): |rpc error: code = \w+ desc = )*(failed to push|error pushing)"
)
_AWAY = re.compile(
    r"connection refused|connection reset|no such host|no route to host|network is unreachable|timed? ?out|timeout"
    r"|deadline exceeded|\bEOF\b|broken pipe|server misbehaving|HTTP (status: )?(5[0-9][0-9]|429)|toomanyrequests"
    r"|too many requests|Bad Gateway|Service Unavailable|Gateway Time|Internal Server Error|unavailable|unknown error",
    re.IGNORECASE,
)
_FETCH = re.compile(
    r"^Error during build: (Failed to clone|Failed to check out|Command '\['(git|hg)'"
    r"|.*(HTTP Error|Errno|urlopen|Max retries))"
    r"|^No matching content provider found"
)
_CRASH = "Error during build: "
_LACKS = re.compile(r"Error during build: The .* must be installed")
_LOGIN = re.compile(r"Error during build: Command '\['(docker|podman)', 'login'")
_BUILDX = re.compile(r"^(ERROR: |error: failed to )")
_STEP = re.compile(
    r'^(?:ERROR|error): [^"\[\n]*(?:process ".*" did not complete successfully|executor failed running \[.*\]): (.*)',
    re.DOTALL | re.MULTILINE,
)
"""A step that failed, its command, of one or more lines, and why. Greedy: a command may quote such a sentence."""
_CLASSIC_STEP = re.compile(r"The command '.*' returned a non-zero code: ([0-9]+)", re.DOTALL)
_EXITED = re.compile(r"exit code: ([0-9]+)")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"?|(?<=failed to push )\S+(?=:)|https?://\S+')
"""A quotation in an error. One without an end extends to that of the line: an author's text is never searched."""
_CLASSIC_BUILT = "Successfully tagged "
_CLASSIC_STEP_BEGINS = re.compile(r"Step [0-9]+/[0-9]+ :")
_NOISE = re.compile(r"^(-{6}|> |#[0-9]+ |Error during build: Command)")
_MAX_EXCERPT_CHARS = 600
_SEARCHED_CHARS = 32 * 1024
"""Length of output that is searched. Authors write most of it, and could make a search slow; within this, none is."""


def classify_exit(
    exit_code: int,
    tail: Sequence[bytes],
    *,
    is_tail_read: bool = True,
    is_out_of_memory: bool = False,
    memory_limit: str = "",
) -> Finished:
    """Return how an execution ended, with a sentence that an author or an operator can act on.

    `tail` contains the last `TAIL_LINES` lines of output; without `is_tail_read` the last ones could not be read.
    `is_out_of_memory` is what the engine or the kubelet reports for the container, and `memory_limit` names its limit.

    A push that is seen to fail is never `build_failed`: an author can do nothing about it. An execution that was killed
    from outside, lost its engine, or ended without saying why, is `build_lost`: it may be run again. One whose reason
    could not be read has said why, so it is not: its exit status alone tells that it failed.
    """
    if exit_code == 0:
        return Finished(ok=True)

    lines = [read_message(raw) for raw in tail]
    messages = [message for message, _ in lines]
    own = [message for message, phase in lines if phase not in _AT_WORK]
    error = _builder_error(lines)
    why = _step_failure(lines, error)

    # A step that exits by itself is for the author to fix; a failed push never is.
    if why and (exited := _EXITED.match(why)) and exited[1] != "137":
        return _failed("build_failed", "repo2docker failed", _excerpt(error))
    if error and not why and _is_push(lines, error):
        return _push_failed(error)

    # Killed for memory: a step, or repo2docker itself.
    why = why or _QUOTED.sub('"..."', error)
    if _OUT_OF_MEMORY_STEP.search(why):
        return _failed(
            "build_out_of_memory",
            "A step of the image's build was killed for memory (exit code 137). Its limit is the container engine's "
            "own, not that of repo2docker's container",
            _excerpt(error),
        )
    if is_out_of_memory and (exit_code in _KILLED or any("SIGKILL" in message for message in own)):
        limit = f"the limit of repo2docker's container, {memory_limit}" if memory_limit else "the machine's memory"
        return _failed("build_out_of_memory", f"repo2docker itself was killed for memory: {limit}, was not enough", "")

    # Lost: with its engine, by a kill from outside, or without a word. repo2docker always says why it ends.
    if any(_NO_ENGINE.search(message) for message in ([why] if error else own)):
        return _failed("build_lost", "The container engine went away", _excerpt(error) or _last(own, _NO_ENGINE))
    if exit_code in _KILLED:
        return _failed("build_lost", f"The build's process was killed from outside (exit code {exit_code})", "")
    if not error and (not lines or lines[-1][1] in _AT_WORK):
        if is_tail_read:
            return _failed("build_lost", f"The build's process ended without saying why (exit code {exit_code})", "")
        if exit_code not in _NO_PROGRAM:
            return _failed("build_failed", f"repo2docker failed (exit code {exit_code}), but {END_IS_MISSING}", "")

    if error and _ENGINE_FAILED.search(why):
        return _failed("engine_failed", "The container engine could not go on", _excerpt(error))
    return _other_failure(exit_code, messages=messages, own=own, error=error)


def _other_failure(exit_code: int, *, messages: list[str], own: list[str], error: str) -> Finished:
    """Classify a failure of repo2docker itself, of fetching, or of a step."""
    if exit_code in _NO_PROGRAM:
        return _failed("builder_image_unavailable", "The builder image has no repo2docker", _last(messages))
    if any(_LACKS.match(message) for message in own[-3:]):
        return _failed("builder_image_unavailable", "The builder image lacks a program", _last(own))
    if exit_code == 2 and any("error: " in message for message in own[-3:]):
        return _failed("internal", "repo2docker refused its arguments", _last(own))
    if any(_LOGIN.match(message) for message in own):
        return _push_failed(_last(own))

    if not _BUILDX.match(error) and any(_FETCH.match(message) for message in own):
        fatal = re.compile(r"^(fatal|error|remote): ")
        reason = _last(messages, fatal) or _last(messages)
        return _failed("fetch_failed", "The repository can't be fetched", reason)
    return _failed("build_failed", "repo2docker failed", _excerpt(error) or _last(messages))


def _builder_error(lines: list[tuple[str, str]]) -> str:
    """Return the error of buildx, or of the classic builder that preceded it; empty if neither reports one."""
    for message, phase in reversed(lines):
        is_buildx = bool(_BUILDX.match(message)) and phase != "fetching"  # in that phase it is git's
        if is_buildx or (phase == "failed" and not message.startswith(_CRASH)):
            return message
    return ""


def _step_failure(lines: list[tuple[str, str]], error: str) -> str:
    """Return why a step of the Dockerfile failed, without its command; empty if no step did."""
    if classic := _CLASSIC_STEP.match(error):
        return f"exit code: {classic[1]}"

    text = "\n".join(message for message, phase in lines if phase == "building")[-_SEARCHED_CHARS:]
    match = _STEP.search(text) if error else None
    if match is None or match.start(1) < text.rfind(error):  # text before the last error was printed by a step
        return ""
    return match[1].partition("\n")[0]


def _is_push(lines: list[tuple[str, str]], error: str) -> bool:
    """Return whether the failed step that buildx shows between dashes is the push, or only the push was left to do."""
    messages = [message for message, _ in lines]
    at = len(messages) - 1 - messages[::-1].index(error)

    if lines[at][1] == "failed":
        for message in reversed(messages[:at]):
            if message.startswith(_CLASSIC_BUILT) or _CLASSIC_STEP_BEGINS.match(message):
                return message.startswith(_CLASSIC_BUILT)
        return False
    return bool(_PUSH.match(error)) or any(_PUSH_STEP.match(message) for message in messages[max(0, at - 4) : at])


def _push_failed(error: str) -> Finished:
    if _AWAY.search(_QUOTED.sub('"..."', error)):
        return _failed(
            "registry_unavailable", "The image could not be pushed, as the registry does not answer", _excerpt(error)
        )
    return _failed("push_denied", "The registry refused the image", _excerpt(error))


def _failed(code: str, sentence: str, excerpt: str) -> Finished:
    message = f"{sentence}: {excerpt}" if excerpt else f"{sentence}."
    return Finished(ok=False, error_code=code, error_message=message)


def _last(messages: list[str], pattern: re.Pattern[str] | None = None) -> str:
    """Return an excerpt of the last message that matches; without a pattern, the last that is not decoration."""
    for message in reversed(messages):
        is_match = bool(pattern.search(message)) if pattern else bool(message) and not _NOISE.match(message)
        if is_match:
            return _excerpt(message)
    return _excerpt(next((message for message in reversed(messages) if message), ""))


def _excerpt(message: str) -> str:
    """Return a message without prefixes and control characters, cut at `_MAX_EXCERPT_CHARS`."""
    text = message.removeprefix("ERROR: ").removeprefix(_CRASH).strip()
    text = "".join(" " if ord(letter) < 32 else letter for letter in text.encode("utf-8", "replace").decode())
    return text if len(text) <= _MAX_EXCERPT_CHARS else f"{text[:_MAX_EXCERPT_CHARS]} ..."
