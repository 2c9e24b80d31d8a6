"""Why a start failed, or goes on: what the words of hub, spawners and cluster mean. One table, read from the top.

Words of: kubelet and kube-scheduler, as events that KubeSpawner 7 relays (`<time> [Warning] <message>`); the Docker
engine, as errors that DockerSpawner 13 lets through; JupyterHub 5 and 6 themselves; and our own spawners.
`tests/contract/recorded/progress.json` has recorded ones.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError


class Verdict(StrEnum):
    """What a message means for the start that it is told of."""

    FATAL = "fatal"
    """It will not come up: trying on would only take time."""
    CAUSE = "cause"
    """It does not come up for this, so far; the cluster tries on, until the deadline."""
    PULLS = "pulls"
    """It waits for its image, or for a node: that has a time of its own."""
    MOVES = "moves"
    """It has come one step farther."""


@dataclass(frozen=True)
class Pattern:
    """One row: words (a regular expression, whatever their case), what they mean, and the code of the failure."""

    words: str
    means: Verdict
    code: ErrorCode | Literal[""] = ""
    is_vague: bool = False
    """It says that there is trouble, and not which: it does not hide what was said before."""

    @property
    def error_code(self) -> ErrorCode:
        """Code of the failure; of a pattern without one, that of any failed start."""
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

_AWAY: ErrorCode = "spawner_unavailable"


def _then(first: str, second: str) -> str:
    """`second` after `first` in one line. Whoever writes `first` a thousand times has it looked at once."""
    return rf"^(?>.*?{first}).*{second}"


PATTERNS = (
    # The spawner does not reach what it starts servers with: the engine, by docker-py's words, or the cluster's API
    Pattern(r"Error while fetching server API version|Cannot connect to the Docker daemon", Verdict.FATAL, _AWAY),
    Pattern(r"\('Connection aborted\.', |^\w*HTTPS?ConnectionPool\(.*\): ", Verdict.FATAL, _AWAY),
    Pattern(r"^Failed to start the (?:container|pod): (?:the engine|Kubernetes) does not answer", Verdict.FATAL, _AWAY),
    Pattern(r"^Cannot connect to host \S+", Verdict.FATAL, _AWAY),
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
    Pattern(r"triggered scale-?up: ", Verdict.PULLS, "server_unschedulable"),
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
        r"^Pulling (?:the )?image|Pulling from|\bDownloading\b|\bExtracting\b", Verdict.PULLS, "image_pull_timeout"
    ),
    Pattern(r"^Successfully pulled image|already present on machine", Verdict.MOVES),
    Pattern(
        r"^Successfully assigned|^Created container|^Started container|^Container (?:created|started)", Verdict.MOVES
    ),
)

_COMPILED = tuple((re.compile(sign.words, re.IGNORECASE | re.MULTILINE), sign) for sign in PATTERNS)
_HUB_TIMED_OUT = re.compile(r"^$|did not start in [0-9]+ seconds|^Timeout", re.IGNORECASE)
"""What remains of the hub's message when its own deadline, or KubeSpawner's, was the first."""


_BEGINS = re.compile(r"^\S+ \[(?:Warning|Normal)\] ")
_QUOTED = re.compile(r'\\?"([^"\s\\]+)\\?"')
_READ_CHARS = 8 * 1024
"""What is longer quotes a stranger: the words of hubs, engines and clusters come first."""
_NAMED = (
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
    """A message without what is of a user's choosing: names of images, repositories, pods and hosts, and any log.

    Each name leaves a `…`. They are read as words nowhere: a repository may be called `out-of-memory`.
    """
    words = message.partition(" The last lines of its log:")[0][:_READ_CHARS]
    words = _BEGINS.sub("", words.removeprefix("Spawn failed: "))
    for name in sorted(set(_QUOTED.findall(words)), key=len, reverse=True):
        if any(mark in name for mark in "/:@"):  # an image, which is told again without quotes
            words = words.replace(name, "…")
    words = _QUOTED.sub("…", words)
    for named, left in _NAMED:
        words = named.sub(left, words)
    return words


def match_pattern(message: str) -> Pattern | None:
    """The first row whose words are in a message, names apart."""
    said = without_names(message)
    return next((sign for words, sign in _COMPILED if words.search(said)), None)


@dataclass
class Diagnosis:
    """What has been read of one start so far."""

    cause: Pattern | None = None
    said: str = ""
    """The message that the cause was read from."""
    waits_for: Pattern | None = None
    """What it waits for with a time of its own: a pull, or a node."""

    def read(self, message: str) -> Pattern | None:
        """Take notice of one message of the progress. Raises `BinderyError` where the start is lost."""
        if (sign := match_pattern(message)) is None:
            return None
        if sign.means is Verdict.FATAL:
            raise self._error(sign, message)
        if sign.means is Verdict.CAUSE and not (sign.is_vague and self.cause):
            self.cause, self.said = sign, message
        elif sign.means is Verdict.PULLS:
            self.waits_for = sign
        elif sign.means is Verdict.MOVES:
            self.cause, self.said, self.waits_for = None, "", None
        return sign

    def failure(self, message: str) -> BinderyError:
        """What it means that the hub says that the start failed."""
        message = message.removeprefix("Spawn failed: ").removeprefix("Spawn failed").strip()
        sign = match_pattern(message)
        if sign and sign.code and sign.means in {Verdict.FATAL, Verdict.CAUSE}:
            return self._error(sign, message)
        if _HUB_TIMED_OUT.search(message):
            return self.timed_out(f"{message}." if message else "JupyterHub waited no longer.")
        return BinderyError("server_start_failed", message or "The server could not start.")

    def timed_out(self, sentence: str) -> BinderyError:
        """What it means that time is up: the cause that was told last, or what it was waiting for."""
        if self.cause:
            return BinderyError(self.cause.error_code, f"{_plain(self.said)} {sentence}".strip())
        if self.waits_for:
            return BinderyError(self.waits_for.error_code, sentence)
        return BinderyError("server_start_timeout", sentence)

    def _error(self, sign: Pattern, message: str) -> BinderyError:
        if sign.is_vague and self.cause:
            return BinderyError(self.cause.error_code, f"{_plain(self.said)} {_plain(message)}")
        return BinderyError(sign.error_code, _plain(message))


_API_ERROR = re.compile(r'\A(?>.*?HTTP response body: )(?>.*?"message":")((?:[^"\\]|\\.)*+)"', re.DOTALL)


def _plain(message: str) -> str:
    """A message without the time and the kind that KubeSpawner puts before it, or the headers of an API's answer."""
    answered = _API_ERROR.search(message)
    text = answered[1].replace('\\"', '"') if answered else _BEGINS.sub("", message).strip()
    return text if text.endswith((".", "!", "?")) or "\n" in text else f"{text}."
