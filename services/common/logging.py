"""Structured logs: one line an event, with the request id and `launch_ref` it belongs to, and never a secret."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars

from services.common.ids import launch_ref

__all__ = ["bind_contextvars", "bound_contextvars", "clear_contextvars", "configure_logging", "get_logger"]

_SECRET_NAMES = re.compile(r"token|secret|password|authorization|cookie|credential|api_key", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"(?i)((?:token|secret|password|api_key|code|state)=)[^&\s\"']+|((?:bearer|token)\s+)[\w.~+/=-]{8,}|(://[^/:@\s]+:)[^@\s]+(?=@)"
)
_LAUNCH_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{43}(?![0-9a-f])")


def redact(text: str) -> str:
    """`text` without the secrets that URLs and headers carry."""
    return _SECRET_TEXT.sub(lambda m: f"{m[1] or m[2] or m[3]}[secret]", text)


def _drop_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if _SECRET_NAMES.search(key):
            event[key] = "[secret]"
        elif isinstance(value, str):
            event[key] = redact(value)
    return event


def _named_by_ref(value: Any) -> Any:
    """`value` with every launch id in it replaced by its `launch_ref`."""
    if isinstance(value, str):
        return _LAUNCH_ID.sub(lambda m: launch_ref(m[0]), value)
    if isinstance(value, dict):
        return {_named_by_ref(name): _named_by_ref(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_named_by_ref(item) for item in value]
    if value is None or isinstance(value, int | float):
        return value
    shown = repr(value)  # as the renderer would write it
    return _named_by_ref(shown) if _LAUNCH_ID.search(shown) else value


def _hide_launch_ids(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Who holds a launch's id may see its server's token, so no log line has one."""
    for key, value in event.items():
        if not key.startswith("_"):  # structlog's own
            event[key] = _named_by_ref(value)
    return event


def configure_logging(*, service: str, level: str = "info", form: str = "json") -> None:
    """Send our own and every library's log lines to standard error, through one set of processors."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _drop_secrets,
        _hide_launch_ids,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, sort_keys=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
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
    for noisy in ("httpx", "httpcore", "arq", "arq.worker", "uvicorn.access", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    bind_contextvars(service=service)


def get_logger(name: str) -> Any:
    """A structlog logger: events are names, what happened goes into key=value."""
    return structlog.stdlib.get_logger(name)
