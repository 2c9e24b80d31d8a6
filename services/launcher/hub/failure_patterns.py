"""Patterns of the messages of hub, spawners and cluster about a start, and the verdict of each on its outcome.

The first pattern that matches decides. The messages come from the kubelet and kube-scheduler (events that
KubeSpawner 7 relays as `<time> [Warning] <message>`), from the Docker engine (errors that DockerSpawner 13 passes on),
from JupyterHub 5 and 6, and from our own spawners. Recorded examples: `tests/contract/recorded/progress.json`.
"""

import re
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import Literal

from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError


class Verdict(StrEnum):
    """Verdict of a message on the outcome of a start."""

    FATAL = "fatal"
    """The server will not start; waiting longer cannot help."""
    CAUSE = "cause"
    """The server has not started for this reason so far; the cluster keeps trying until the deadline."""
    WAITING = "waiting"
    """The start waits for its image or for a node, which has a time limit of its own."""
    PROGRESS = "progress"
    """The start has completed a step."""


@dataclass(frozen=True)
class Pattern:
    """One row of the table: a regular expression (case ignored), its verdict, and the code of the failure."""

    regex: str
    verdict: Verdict
    code: ErrorCode | Literal[""] = ""
    _: KW_ONLY
    is_vague: bool = False
    """Whether it only says that something is wrong; such a message does not replace a cause that was read earlier."""

    @property
    def error_code(self) -> ErrorCode:
        """Code of the failure; for a pattern without one, that of any failed start."""
        return self.code or "server_start_failed"


_PULL = r"(?:failed to pull|ErrImagePull|ImagePullBackOff|Back-off pulling|/images/create|manifest for)"
_DENIED = (
    r"(?:unauthorized|authentication required|authorization failed|insufficient_scope|access denied|access forbidden"
    r"|requested access to the resource is denied|no basic auth|403 Forbidden|401 Unauthorized|docker-credential)"
)
_UNREACHABLE = (
    r"(?:\bdial (?:tcp|udp)|no route to host|i/o timeout|no such host|connection refused|connection reset|TLS handshake"
    r"|x509:|deadline exceeded"
    r"|unexpected EOF|toomanyrequests|Too Many Requests|HTTP response to HTTPS|Client\.Timeout|network is unreachable"
    r"|50[0234] (?:Internal Server Error|Bad Gateway|Service Unavailable|Gateway Time-?out)$)"
)

_NO_BACKEND: ErrorCode = "spawner_unavailable"


def _then(first: str, second: str) -> str:
    """Return a regular expression for `first` followed by `second` on one line.

    The atomic group tries only the first occurrence of `first`, so a line that repeats it a thousand times costs
    no more than any other.
    """
    return rf"^(?>.*?{first}).*{second}"


PATTERNS = (
    # The spawner does not reach its platform: the engine, by docker-py's words, or the cluster's API
    Pattern(r"Error while fetching server API version|Cannot connect to the Docker daemon", Verdict.FATAL, _NO_BACKEND),
    Pattern(r"\('Connection aborted\.', |^\w*HTTPS?ConnectionPool\(.*\): ", Verdict.FATAL, _NO_BACKEND),
    Pattern(
        r"^Failed to start the (?:container|pod): (?:the engine|Kubernetes) does not answer",
        Verdict.FATAL,
        _NO_BACKEND,
    ),
    Pattern(r"^Cannot connect to host \S+", Verdict.FATAL, _NO_BACKEND),
    # What its pod is to belong to
    Pattern(r"^The ConfigMap \S+ in \S+, to which servers belong,", Verdict.FATAL, "hub_refused"),
    # The image
    Pattern(_then(_PULL, _DENIED), Verdict.FATAL, "image_pull_denied"),
    Pattern(
        _then(_PULL, r"(?:\bnot found\b|manifest unknown|name unknown|code = NotFound)"),
        Verdict.FATAL,
        "image_pull_failed",
    ),
    Pattern(_then("404 Client Error", "No such image") + "|image not found: ", Verdict.FATAL, "image_pull_failed"),
    Pattern(r"InvalidImageName|couldn't parse image|invalid reference format", Verdict.FATAL, "image_pull_failed"),
    Pattern(_then(_PULL, _UNREACHABLE), Verdict.CAUSE, "image_pull_unreachable"),
    Pattern("pull access denied|" + _then("Error response", _DENIED), Verdict.FATAL, "image_pull_denied"),
    Pattern(_PULL, Verdict.CAUSE, "image_pull_failed", is_vague=True),
    # A place to run
    Pattern(r"exceeded quota", Verdict.FATAL, "server_quota_exceeded"),
    Pattern(r"triggered scale-?up: ", Verdict.WAITING, "server_unschedulable"),
    Pattern(r"nodes are available|no nodes available|didn't trigger scale-?up", Verdict.CAUSE, "server_unschedulable"),
    Pattern(
        r"^The pod was ended: (?:Evicted|Preempting)|^The node was low on resource", Verdict.FATAL, "server_evicted"
    ),
    Pattern(r"^Preempted (?:by|in order to)\b", Verdict.FATAL, "server_evicted"),
    Pattern(r"MountVolume|AttachVolume|Unable to attach or mount", Verdict.CAUSE, "server_not_set_up"),
    Pattern(r"Failed to create pod sandbox|network is not ready", Verdict.CAUSE, "server_not_set_up"),
    Pattern(r"^Error: (?:secret|configmap) … not found|^Error: couldn't find key", Verdict.CAUSE, "server_not_set_up"),
    Pattern(r"\bCreateContainerConfigError\b", Verdict.CAUSE, "server_not_set_up", is_vague=True),
    # Its end before it answered
    Pattern(
        r"(?:^|[ :(])OOMKilled(?:$|[ .,:)])|\bran out of memory\b|\bout of memory\b",
        Verdict.FATAL,
        "server_out_of_memory",
    ),
    Pattern(
        r"\bexit(?:ed)?[ -]?(?:with )?(?:code|status)[ =:]*137\b|\[status=137\]", Verdict.FATAL, "server_out_of_memory"
    ),
    Pattern(r"Back-off restarting failed", Verdict.FATAL, "server_start_failed", is_vague=True),
    Pattern(
        r"^The server (?:lets everybody in without its|does not accept the launch's) token: ",
        Verdict.FATAL,
        "server_not_protected",
    ),
    Pattern(r"The server ended with exit status|Neither JupyterLab nor Notebook", Verdict.FATAL, "server_start_failed"),
    Pattern(
        r"executable file not found|failed to start container|RunContainerError", Verdict.CAUSE, "server_start_failed"
    ),
    Pattern(r"^Spawner failed to start \[status=|\bExitCode=[0-9]+", Verdict.FATAL, "server_start_failed"),
    # It runs, and does not answer
    Pattern(r"Server at \S+ didn't respond in", Verdict.FATAL, "server_port_closed"),
    Pattern(r"The server did not answer within", Verdict.FATAL, "server_start_timeout"),
    # It goes on
    Pattern(
        r"^Pulling (?:the )?image|Pulling from|\bDownloading\b|\bExtracting\b", Verdict.WAITING, "image_pull_timeout"
    ),
    Pattern(r"^Successfully pulled image|already present on machine", Verdict.PROGRESS),
    Pattern(
        r"^Successfully assigned|^Created container|^Started container|^Container (?:created|started)", Verdict.PROGRESS
    ),
)

_COMPILED = tuple((re.compile(pattern.regex, re.IGNORECASE | re.MULTILINE), pattern) for pattern in PATTERNS)

_HUB_TIMED_OUT = re.compile(r"^$|did not start in [0-9]+ seconds|^Timeout", re.IGNORECASE)
"""The rest of the hub's message if its own deadline, or KubeSpawner's, came first."""

_EVENT_PREFIX = re.compile(r"^\S+ \[(?:Warning|Normal)\] ")
"""Time and type that KubeSpawner writes before an event."""

_QUOTED = re.compile(r'\\?"([^"\s\\]+)\\?"')

_MATCHED_CHARS_MAX = 8 * 1024
"""Only this much of a message is matched: hubs, engines and clusters put their own words first."""

_NAMES = (
    (re.compile(r"\b((?:pull|Pulling|pulled) (?:the )?image) [^\s\"]+(?<!:)"), r"\1 …"),
    (re.compile(r"\b(manifest for|No such image:) \S+"), r"\1 …"),
    (re.compile(r"(/images/create)\?\S+"), r"\1"),
    (re.compile(r"(/containers/)(?!create\b)[^/\s:]+"), r"\1…"),
    (re.compile(r"\bhttps?://[^\s\")]+(?<![:.,])"), "…"),
    (re.compile(r"\b(lookup) \S+(?= on |: )"), r"\1 …"),
    (re.compile(r"\b(assigned) \S+ to \S+"), r"\1 … to …"),
    (re.compile(r"\b(in pod) [\w./-]+(?:\([\w-]+\))?"), r"\1 …"),
    (re.compile(r"\b(pod|The logs for) \S+ (did|may) "), r"\1 … \2 "),
)


def without_names(message: str) -> str:
    """Return a message without text that a user chose: names of images, repositories, pods and hosts, and any log.

    Each name becomes `…`. A name must not be matched by a pattern: a repository may be called `out-of-memory`.
    """
    text = message.partition(" The last lines of its log:")[0][:_MATCHED_CHARS_MAX]
    text = _EVENT_PREFIX.sub("", text.removeprefix("Spawn failed: "))

    # The same image may appear again without quotes.
    for name in sorted(set(_QUOTED.findall(text)), key=len, reverse=True):
        if any(separator in name for separator in "/:@"):
            text = text.replace(name, "…")
    text = _QUOTED.sub("…", text)

    for name_pattern, replacement in _NAMES:
        text = name_pattern.sub(replacement, text)
    return text


def match_pattern(message: str) -> Pattern | None:
    """Return the first pattern that matches a message without its names, or None."""
    text = without_names(message)
    return next((pattern for regex, pattern in _COMPILED if regex.search(text)), None)


@dataclass
class Diagnosis:
    """The conclusions from the messages of one start so far."""

    cause: Pattern | None = None
    cause_message: str = ""
    """The message that `cause` was read from."""
    waits_for: Pattern | None = None
    """A pull or a new node that the start waits for, which has a time limit of its own."""

    def observe(self, message: str) -> Pattern | None:
        """Take one progress message into account and return its pattern. Raise `BinderyError` if the start is lost."""
        pattern = match_pattern(message)
        if pattern is None:
            return None

        match pattern.verdict:
            case Verdict.FATAL:
                raise self._error(pattern, message)
            case Verdict.CAUSE:
                if not (pattern.is_vague and self.cause):
                    self.cause = pattern
                    self.cause_message = message
            case Verdict.WAITING:
                self.waits_for = pattern
            case Verdict.PROGRESS:
                self.cause = None
                self.cause_message = ""
                self.waits_for = None
        return pattern

    def failure(self, message: str) -> BinderyError:
        """Return the error for a start that the hub reports as failed with `message`."""
        message = message.removeprefix("Spawn failed: ").removeprefix("Spawn failed").strip()
        pattern = match_pattern(message)
        if pattern and pattern.code and pattern.verdict in {Verdict.FATAL, Verdict.CAUSE}:
            return self._error(pattern, message)
        if _HUB_TIMED_OUT.search(message):
            return self.timeout(f"{message}." if message else "JupyterHub stopped waiting.")
        return BinderyError("server_start_failed", message or "The server could not start.")

    def timeout(self, sentence: str) -> BinderyError:
        """Return the error for a start that ran out of time: its last cause, or the thing that it was waiting for."""
        if self.cause:
            return BinderyError(self.cause.error_code, f"{_plain(self.cause_message)} {sentence}".strip())
        if self.waits_for:
            return BinderyError(self.waits_for.error_code, sentence)
        return BinderyError("server_start_timeout", sentence)

    def _error(self, pattern: Pattern, message: str) -> BinderyError:
        if pattern.is_vague and self.cause:
            return BinderyError(self.cause.error_code, f"{_plain(self.cause_message)} {_plain(message)}")
        return BinderyError(pattern.error_code, _plain(message))


_API_ERROR = re.compile(r'\A(?>.*?HTTP response body: )(?>.*?"message":")((?:[^"\\]|\\.)*+)"', re.DOTALL)


def _plain(message: str) -> str:
    """Return a message without KubeSpawner's event prefix, or the headers of a Kubernetes API error."""
    text = _EVENT_PREFIX.sub("", message).strip()
    if api_error := _API_ERROR.search(message):
        text = api_error[1].replace('\\"', '"')
    return text if text.endswith((".", "!", "?")) or "\n" in text else f"{text}."
