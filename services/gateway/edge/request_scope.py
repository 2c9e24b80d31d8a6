"""The part of a request's scope that the edge sets, and what routes read from it."""

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from services.gateway.edge.origins import Origins
from services.gateway.settings import GatewaySettings

SCOPE_KEY = "bindery.edge"


@dataclass(frozen=True)
class EdgeScope:
    """Settings and origins of the gateway that serves a request."""

    settings: GatewaySettings
    """Settings of the gateway."""
    origins: Origins
    """Hosts and web sites that the gateway answers to."""


def edge_scope(connection: HTTPConnection) -> EdgeScope:
    """Return the part of a request's scope that the edge has set."""
    scope: EdgeScope = connection.scope[SCOPE_KEY]
    return scope


def refuse_cross_site(connection: HTTPConnection) -> None:
    """Raise `BinderyError("cross_site")` if another web site asks for a launch."""
    edge_scope(connection).origins.refuse_cross_site(connection)


def refuse_unnamed_page(connection: HTTPConnection) -> None:
    """Raise `BinderyError("cross_site")` if a browser does not say which site's page asks for a launch."""
    edge_scope(connection).origins.refuse_unnamed_page(connection)


def base_url(connection: HTTPConnection) -> str:
    """Return the address that links, badges and `binder_launch_host` begin with; it ends with a slash."""
    return edge_scope(connection).origins.base_url(connection)


def client_ip(connection: HTTPConnection) -> str:
    """Return the address of the client, past the proxies that we trust; empty if it is unknown."""
    return edge_scope(connection).origins.client_ip(connection)
