"""The option `--gateway`, and a client whose errors are errors of the command."""

import contextlib
import os
from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter

from bindery.cli.terminal import CommandError, with_code
from bindery.client import Client, GatewayError
from bindery.local_gateway import is_loopback, running_gateway

DEFAULT_GATEWAY = "http://127.0.0.1:8585"
ACCESS_ADVICE = (
    " The command line finds the token if BINDERY_DATA_DIR names the data folder of the Bindery that runs at "
    "{gateway}, or if BINDERY_START_TOKEN is the token."
)


def default_gateway() -> str:
    """Return the address in BINDERY_GATEWAY_URL, or the address of a running `make up`, or the default one."""
    return os.environ.get("BINDERY_GATEWAY_URL") or running_gateway() or DEFAULT_GATEWAY


Gateway = Annotated[
    str | None,
    Parameter(help="Address of the gateway.", show_default=lambda _: default_gateway()),
]


@contextlib.contextmanager
def connect(gateway: str | None) -> Iterator[Client]:
    """Yield a client of `gateway` (the default one if None). Raise `CommandError` for a `GatewayError`."""
    address = default_gateway() if gateway is None else gateway
    try:
        with Client(address) as client:
            yield client
    except GatewayError as error:
        raise CommandError(_explain(error, address)) from error


def operator_token() -> str:
    """Return the operator's token, if the environment has it."""
    return os.environ.get("BINDERY_OPERATOR_TOKEN", "")


def _explain(error: GatewayError, gateway: str) -> str:
    message = str(error)
    if error.code == "start_token_required" and is_loopback(gateway):
        message += ACCESS_ADVICE.format(gateway=gateway)

    return with_code(message, error.code)
