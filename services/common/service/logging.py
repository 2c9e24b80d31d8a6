"""Structured logs: one line for each event, with its request id and `launch_ref`, and never a secret."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, cast

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars
from structlog.typing import FilteringBoundLogger

from services.common.models.ids import launch_ref

__all__ = ["bind_contextvars", "bound_contextvars", "clear_contextvars", "configure_logging", "get_logger"]

_SECRET_NAMES = re.compile(
    r"token|secret|passw|passphrase|authorization|cookie|credential|(api|private)_?key", re.IGNORECASE
)
_SECRET_TEXT = re.compile(
    r"""
      (?P<kept>
        (?:token|secret|passw(?:or)?d|api_?key)=            # of a query, a form, a command
      | [?&](?:code|state)=                                 # what an OAuth provider answers with
      | \bauthorization["']?\s*[:=]\s*["']?(?:\w+\s+)?       # a header
      ) [^&\s"']+
    | (?P<scheme>\b(?:bearer|token)\s+) [\w.~+/=-]{8,}
    """,
    re.IGNORECASE | re.VERBOSE,
)
_UP_TO_AT = re.compile(r"://[^@\s]*+@?")
"""From the first `://` of a word to its `@`, or to its end if it has none, so that the scan is linear."""
_USER = re.compile(r"://[^/:@\s]*:(?=[^@])")
_BARE_TOKEN_MIN_LENGTH = 20
_LAUNCH_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{43}(?![0-9a-f])")
_VALUE_MAX_CHARS = 32 * 1024


def redact(text: str) -> str:
    """Return `text` without the secrets in its URLs, headers and commands, in time linear in its length.

    Cut a text after this, never before: the rest of a cut secret would not be recognised.
    """
    text = without_userinfo(text)
    return _SECRET_TEXT.sub(lambda m: f"{m['kept'] or m['scheme']}[secret]", text)


def without_userinfo(text: str) -> str:
    """Return `text` without the passwords and tokens in its URLs, in time linear in its length."""
    return _UP_TO_AT.sub(_without_secret, text)


def quotable(text: str, max_chars: int = 200) -> str:
    """Return `text` to be quoted in a sentence: without secrets, and then cut to `max_chars`."""
    text = redact(text)
    return text if len(text) <= max_chars else f"{text[:max_chars]}…"


def _without_secret(match: re.Match[str]) -> str:
    """Blank a password in a URL, with or without a user, or a token in place of the user."""
    text = match[0]
    if not text.endswith("@"):
        return text
    if user := _USER.search(text):
        return f"{text[: user.end()]}[secret]@"
    before, mark, name = text[:-1].rpartition("://")
    is_token = len(name) >= _BARE_TOKEN_MIN_LENGTH and "/" not in name and ":" not in name
    return f"{before}{mark}[secret]@" if is_token else text


def _without_secrets_and_ids(text: str) -> str:
    """Return `text` without secrets, and with every launch id replaced by its `launch_ref`."""
    return _LAUNCH_ID.sub(lambda m: launch_ref(m[0]), redact(text))


def _cut(text: str) -> str:
    """Return `text`, or the start and end of a long one: a traceback's last line says what went wrong."""
    left_out = len(text) - _VALUE_MAX_CHARS
    if left_out <= 0:
        return text
    half = _VALUE_MAX_CHARS // 2
    return f"{text[:half]} [{left_out} characters left out] {text[-half:]}"


def _loggable(name: object, value: Any) -> Any:
    """Return a value as a log line may show it: hidden if its name is a secret's, else without secrets and ids."""
    if isinstance(name, str) and _SECRET_NAMES.search(name):
        return "[secret]"

    if isinstance(value, str):
        return _cut(_without_secrets_and_ids(value))
    if isinstance(value, Mapping):
        return {_loggable(None, key): _loggable(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_loggable(name, item) for item in value]

    if value is None or isinstance(value, int | float):
        return value

    text = repr(value)  # as the renderer would write it
    cleaned = _cut(_without_secrets_and_ids(text))
    return cleaned if cleaned != text else value


def _hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Remove secrets from a log line. A launch id is one too, as its holder may see the token of the server."""
    for key, value in event.items():
        if not key.startswith("_"):  # structlog's own
            event[key] = _loggable(key, value)
    return event


def configure_logging(*, service: str, level: str = "info", form: str = "json") -> None:
    """Send our own and every library's log lines to standard error, through one set of processors."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _hide_secrets,
    ]

    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, sort_keys=False)
    )

    # Our own lines
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )

    # The lines of libraries, and the output of both
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, lambda _l, _m, e: {"service": service, **e}],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )

    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())

    for noisy in ("httpx", "httpcore", "arq", "arq.worker", "uvicorn.access", "uvicorn.error", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))

    bind_contextvars(service=service)


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a structlog logger: events are names, and what happened goes into key=value."""
    return cast("FilteringBoundLogger", structlog.stdlib.get_logger(name))
