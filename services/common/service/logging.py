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
from services.common.service.redaction import redact

__all__ = ["bind_contextvars", "bound_contextvars", "clear_contextvars", "configure_logging", "get_logger"]

_SECRET_NAMES = re.compile(
    r"token|secret|passw|passphrase|authorization|cookie|credential|(api|private)_?key", re.IGNORECASE
)
_LAUNCH_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{43}(?![0-9a-f])")
_VALUE_MAX_CHARS = 32 * 1024


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
