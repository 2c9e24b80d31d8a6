"""`bindery up`."""

from typing import Annotated

from cyclopts import Parameter

from bindery.cli.checkout import embedded_stack

Without = Annotated[
    list[str],
    Parameter(
        help="Leave out a component, as in `--without gateway`, and print how to run it by hand, for instance in a "
        "debugger. May be repeated, or name several with commas between them.",
        negative="",
        show_default=False,
    ),
]


def up(*, without: Without = []) -> int:  # noqa: B006 - the list is only read
    """Start everything on this machine, and keep it running until Ctrl-C."""
    with embedded_stack("up") as settings:
        from deploy.local.up import up as run_stack

        return run_stack(settings, without=without)
