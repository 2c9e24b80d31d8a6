"""`bindery launch`."""

import sys
from typing import Annotated

from cyclopts import Parameter

from bindery.cli.gateway import Gateway, connect
from bindery.cli.terminal import CommandError, print_error, with_code
from bindery.client import Client, split_spec
from bindery.models import Event

Repository = Annotated[
    str,
    Parameter(help="Provider and spec, as in the link of a badge: `gh/org/repo/HEAD`.", name="PROVIDER/SPEC"),
]
Path = Annotated[str, Parameter(help="What to open in the server.", show_default=False)]
Detach = Annotated[
    bool,
    Parameter(help="Start it, print the address of its page and don't follow it.", negative="", show_default=False),
]
TokenStdin = Annotated[
    bool,
    Parameter(help="Read a token for a private repository from standard input.", negative="", show_default=False),
]
Username = Annotated[str, Parameter(help="The user that goes with that token.", show_default=False)]


def launch(
    repository: Repository,
    /,
    *,
    path: Path = "",
    detach: Detach = False,
    token_stdin: TokenStdin = False,
    username: Username = "",
    gateway: Gateway = None,
) -> int:
    """Launch a repository and print the address of its server, or of its page with `detach`.

    Only the address goes to standard output, for `open $(bindery launch ...)`; the progress goes to standard error.
    """
    try:
        provider, spec = split_spec(repository)
    except ValueError as error:
        raise CommandError(str(error)) from error

    token = sys.stdin.readline().strip() if token_stdin else ""
    if token_stdin and not token:
        raise CommandError("There is no token on standard input: bindery launch --token-stdin … < file-with-the-token")

    with connect(gateway) as client:
        new_launch = client.launch(provider, spec, path=path, detached=detach, username=username, password=token)
        if detach:
            print(new_launch.address)
            return 0

        return _follow(client, new_launch.launch_id)


def _follow(client: Client, launch_id: str) -> int:
    for event in client.events(launch_id):
        if event.message:
            print_error(event.message.removesuffix("\n"))

        if event.phase == "ready":
            print(event.address)
            return 0
        if event.is_final:
            _print_failure(event)
            return 1

    return 1


def _print_failure(event: Event) -> None:
    """Print why a launch did not succeed, without what its last message has said."""
    if event.problem:
        message = event.message.strip()
        reason = event.problem if event.problem not in message else "The launch failed."
        if message:
            reason = reason.replace(message, "").strip()
        print_error(with_code(reason or "The launch failed.", event.code))
    elif event.phase == "cancelled":
        print_error("The launch was cancelled.")
