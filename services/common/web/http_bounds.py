"""The limits of HTTP connections, which `http_protocol` enforces."""

from dataclasses import dataclass

from services.common.service.settings import ServiceSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpBounds:
    """The limits of one connection, and the number of connections; `connections` 0 means no limit."""

    head_bytes: int
    head_seconds: float
    body_seconds: float
    send_seconds: float
    pipelined: int
    connections: int

    @classmethod
    def of(cls, settings: ServiceSettings) -> "HttpBounds":
        """Return the bounds of a service."""
        return cls(
            head_bytes=settings.http_head_max_bytes,
            head_seconds=settings.http_head_timeout_seconds,
            body_seconds=settings.http_body_timeout_seconds,
            send_seconds=settings.send_timeout_seconds,
            pipelined=settings.http_pipelined_max,
            connections=settings.http_connections_max,
        )

    @property
    def connections_with_spare(self) -> int:
        """Number of connections up to which a refused one is told why; beyond it, connections are closed unread."""
        return self.connections + max(16, self.connections // 10)
