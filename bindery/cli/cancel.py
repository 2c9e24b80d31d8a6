"""`bindery cancel`."""

import re
from typing import Annotated

from cyclopts import Parameter

from bindery.cli.gateway import Gateway, connect, operator_token

BUILD_ID_PATTERN = re.compile(r"[0-9a-f]{24}-[0-9]+")

Id = Annotated[str, Parameter(help="Id of a launch or a build.", name="LAUNCH-OR-BUILD")]


def cancel(id_: Id, /, *, gateway: Gateway = None) -> None:
    """Cancel a launch or a build."""
    with connect(gateway) as client:
        if BUILD_ID_PATTERN.fullmatch(id_):
            client.cancel_build(id_, operator_token=operator_token())
        else:
            client.cancel(id_)
