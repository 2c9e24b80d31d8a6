"""`bindery log`."""

from typing import Annotated

from cyclopts import Parameter

from bindery.cli.gateway import Gateway, connect
from bindery.cli.terminal import printable

BuildId = Annotated[str, Parameter(help="Id of the build.", name="BUILD")]
Lines = Annotated[
    int,
    Parameter(help="Print only the first LINES lines, or, if negative, the last ones.", show_default=False),
]


def log(build_id: BuildId, /, *, lines: Lines = 0, gateway: Gateway = None) -> None:
    """Print the log of a build up to now."""
    with connect(gateway) as client:
        text = client.build_log(build_id, lines=lines)

    print(printable(text), end="")
