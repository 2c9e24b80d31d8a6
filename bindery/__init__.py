"""Bindery: from a link to a running Jupyter.

The Python client is `Client`, which raises `GatewayError`; `bindery.cli` is the command line.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bindery.client import Client, GatewayError

__all__ = ["Client", "GatewayError"]


def __getattr__(name: str) -> object:
    """Import the client when it is first asked for: `bindery up` and `bindery --help` do without it."""
    if name in __all__:
        from bindery import client

        return getattr(client, name)

    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
