"""How an execution of repo2docker ended, read from its exit status and from the last lines that it said.

The sentences are those of jupyter-repo2docker 2026.4.0 with git and buildx (Docker Engine 20.10, or a BuildKit of its
own), and of 2024.07, BinderHub's default, with the classic builder.

Much of that output is an author's: what steps print, and the commands and names that errors quote. It is never searched
for what an engine or a registry says, or an author could have his own failure taken for the operator's, and run again.
"""

import re
from collections.abc import Sequence

from services.builder.executors.base import Finished
from services.builder.executors.repo2docker import said_in

TAIL_LINES = 100
"""How many of the last lines tell all that can be told."""

_KILLED = (137, 143)
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
"""A step that failed, its command, of one line or several, and why. Greedy: a command may quote such a sentence."""
_CLASSIC_STEP = re.compile(r"The command '.*' returned a non-zero code: ([0-9]+)", re.DOTALL)
_EXITED = re.compile(r"exit code: ([0-9]+)")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"?|(?<=failed to push )\S+(?=:)|https?://\S+')
"""What an error quotes; a quotation without end goes to the line's: an author's text is searched for nothing."""
_CLASSIC_BUILT, _CLASSIC_STEP_BEGINS = "Successfully tagged ", re.compile(r"Step [0-9]+/[0-9]+ :")
_NOISE = re.compile(r"^(-{6}|> |#[0-9]+ |Error during build: Command)")
_WORDS_MAX = 600
_SEARCHED_CHARS = 32 * 1024
"""Authors write most of what is searched, and may make a search slow: of this much none is."""


def outcome(
    exit_code: int, tail: Sequence[bytes], *, is_out_of_memory: bool = False, memory_limit: str = ""
) -> Finished:
    """How it ended, with a sentence that an author or an operator can act on.

    `tail` are the last `TAIL_LINES` lines of output; `is_out_of_memory` is what the engine or the kubelet says of the
    container, and `memory_limit` names the limit it had. A failed push is never `build_failed`: an author can do
    nothing about it. An execution that was killed from outside, lost its engine, or is silent about its end, is
    `build_lost`: it may be run again.
    """
    if exit_code == 0:
        return Finished(ok=True)
    lines = [said_in(raw) for raw in tail]
    said = [message for message, _ in lines]
    own = [message for message, phase in lines if phase not in _AT_WORK]
    error = _error_of_builder(lines)
    why = _why_step_failed(lines, error)
    if why and (exited := _EXITED.match(why)) and exited[1] != "137":
        return _failed("build_failed", "repo2docker failed", _words(error))
    if error and not why and _is_push(lines, error):
        return _push_failed(error)
    why = why or _QUOTED.sub('"..."', error)
    if _OUT_OF_MEMORY_STEP.search(why):
        return _failed(
            "build_out_of_memory",
            "A step of the image's build was killed for memory (exit code 137). Its limit is the container engine's "
            "own, not that of repo2docker's container",
            _words(error),
        )
    if is_out_of_memory and (exit_code in _KILLED or any("SIGKILL" in message for message in own)):
        limit = f"the limit of repo2docker's container, {memory_limit}" if memory_limit else "the machine's memory"
        return _failed("build_out_of_memory", f"repo2docker itself was killed for memory: {limit}, was not enough", "")
    if any(_NO_ENGINE.search(message) for message in ([why] if error else own)):
        return _failed("build_lost", "The container engine went away", _words(error) or _last_words(own, _NO_ENGINE))
    if exit_code in _KILLED:
        return _failed("build_lost", f"What ran the build was killed from outside (exit code {exit_code})", "")
    if not error and (not lines or lines[-1][1] in _AT_WORK):  # it always says why, with no phase or with its own
        return _failed("build_lost", f"What ran the build ended without saying why (exit code {exit_code})", "")
    if error and _ENGINE_FAILED.search(why):
        return _failed("engine_failed", "The container engine could not go on", _words(error))
    return _failed_otherwise(exit_code, said, own, error)


def _failed_otherwise(exit_code: int, said: list[str], own: list[str], error: str) -> Finished:
    if exit_code in {126, 127}:
        return _failed("builder_image_unavailable", "The builder image has no repo2docker", _last_words(said))
    if any(_LACKS.match(message) for message in own[-3:]):
        return _failed("builder_image_unavailable", "The builder image lacks a program", _last_words(own))
    if exit_code == 2 and any("error: " in message for message in own[-3:]):
        return _failed("internal", "repo2docker refused its arguments", _last_words(own))
    if any(_LOGIN.match(message) for message in own):
        return _push_failed(_last_words(own))
    if not _BUILDX.match(error) and any(_FETCH.match(message) for message in own):
        fatal = re.compile(r"^(fatal|error|remote): ")
        return _failed("fetch_failed", "The repository can't be fetched", _last_words(said, fatal) or _last_words(said))
    return _failed("build_failed", "repo2docker failed", _words(error) or _last_words(said))


def _error_of_builder(lines: list[tuple[str, str]]) -> str:
    """What buildx, or before it the classic builder, says went wrong; empty when neither says anything."""
    for message, phase in reversed(lines):
        is_buildx = bool(_BUILDX.match(message)) and phase != "fetching"  # else it is git that says so
        if is_buildx or (phase == "failed" and not message.startswith(_CRASH)):
            return message
    return ""


def _why_step_failed(lines: list[tuple[str, str]], error: str) -> str:
    """What the builder says of a step of the Dockerfile that failed, without its command; empty where none has."""
    if classic := _CLASSIC_STEP.match(error):
        return f"exit code: {classic[1]}"
    text = "\n".join(message for message, phase in lines if phase == "building")[-_SEARCHED_CHARS:]
    found = _STEP.search(text) if error else None
    if found is None or found.start(1) < text.rfind(error):  # what comes before the last error was printed by a step
        return ""
    return found[1].partition("\n")[0]


def _is_push(lines: list[tuple[str, str]], error: str) -> bool:
    """Whether the step that buildx says failed, between its dashes, is that of pushing; or nothing else was left."""
    said = [message for message, _ in lines]
    at = len(said) - 1 - said[::-1].index(error)
    if lines[at][1] == "failed":
        for message in reversed(said[:at]):
            if message.startswith(_CLASSIC_BUILT) or _CLASSIC_STEP_BEGINS.match(message):
                return message.startswith(_CLASSIC_BUILT)
        return False
    return bool(_PUSH.match(error)) or any(_PUSH_STEP.match(message) for message in said[max(0, at - 4) : at])


def _push_failed(error: str) -> Finished:
    if _AWAY.search(_QUOTED.sub('"..."', error)):
        return _failed(
            "registry_unavailable", "The image could not be pushed, as the registry does not answer", _words(error)
        )
    return _failed("push_denied", "The registry refused the image", _words(error))


def _failed(code: str, sentence: str, words: str) -> Finished:
    return Finished(ok=False, error_code=code, error_message=f"{sentence}: {words}" if words else f"{sentence}.")


def _last_words(said: list[str], wanted: re.Pattern[str] | None = None) -> str:
    """The last message that `wanted` finds; without it the last that is more than buildx's decoration."""
    for message in reversed(said):
        if wanted.search(message) if wanted else message and not _NOISE.match(message):
            return _words(message)
    return _words(next((message for message in reversed(said) if message), ""))


def _words(message: str) -> str:
    text = message.removeprefix("ERROR: ").removeprefix(_CRASH).strip()
    text = "".join(" " if ord(letter) < 32 else letter for letter in text.encode("utf-8", "replace").decode())
    return text if len(text) <= _WORDS_MAX else f"{text[:_WORDS_MAX]} ..."
