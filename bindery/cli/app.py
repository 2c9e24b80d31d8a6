"""The console script `bindery`: its commands, and its exit status.

A new command is a file with a function, and a line in this one. The file is imported when its command runs: `launch`
never imports what only `up` needs. A command returns its exit status, and raises `CommandError` or `GatewayError` if
it fails; its results go to standard output, all else to standard error.
"""

import os
import re
import sys
from collections.abc import Sequence
from importlib import metadata

from cyclopts import App, Group

from bindery.cli.checkout import CHECKOUT
from bindery.cli.terminal import CommandError, print_error

THIS_MACHINE = Group("Bindery on this machine", sort_key=1)
CLUSTER = Group("Bindery in a cluster", sort_key=2)
GATEWAY = Group("At a gateway, here or elsewhere", sort_key=3)
OPERATOR = Group("For the operator of a gateway", sort_key=4)
OPTIONS = Group("Options", sort_key=5)

_VERSION_FILE = CHECKOUT / "services" / "common" / "version.py"
_VERSION = re.compile(r'^VERSION = "(.+)"$', re.MULTILINE)


def _version() -> str:
    """Return name and version: of the checkout that this file is part of, or else of the installed package."""
    if _VERSION_FILE.exists() and (match := _VERSION.search(_VERSION_FILE.read_text())):
        return f"bindery {match[1]}"

    return f"bindery {metadata.version('bindery')}"


app = App(
    name="bindery",
    help="From a link to a running Jupyter.",
    version=_version,
    help_format="markdown",
    result_action="return_value",
)
for option in ("--help", "--version"):
    app[option].group = (OPTIONS,)


def _add(name: str, group: Group, text: str) -> None:
    module = name.replace("-", "_")
    app.command(f"bindery.cli.{module}:{module}", name=name, group=group, help=text)


_add("up", THIS_MACHINE, "Start everything on this machine, and keep it running until Ctrl-C.")
_add("url", THIS_MACHINE, "Print the address of the Bindery that runs on this machine, with its start token.")
_add("stop", THIS_MACHINE, "End the Bindery that runs on this machine.")
_add("clean", THIS_MACHINE, "Delete the data folder, after asking.")
_add("doctor", THIS_MACHINE, "Check this machine for what `bindery up` needs, and say what to do about each problem.")
_add("check", THIS_MACHINE, "Say what would be built from a folder, and what would be refused, before it is pushed.")

_add("hub-values", CLUSTER, "Print Helm values for a hub of zero-to-jupyterhub that starts Bindery's servers.")

_add("launch", GATEWAY, "Launch a repository and print the address of its server.")
_add("log", GATEWAY, "Print the log of a build up to now.")
_add("cancel", GATEWAY, "Cancel a launch or a build.")
_add("queue", GATEWAY, "Print how many builds wait and run, and how many may run.")

_add("ban", OPERATOR, "Ban links, and end the launches of them.")
_add("allow", OPERATOR, "Allow links where only some may be launched.")
_add("policy", OPERATOR, "Print the bans and allowances, say why a link is banned, or remove a rule.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status. Raise `SystemExit` for arguments that it can't parse."""
    tokens = sys.argv[1:] if arguments is None else list(arguments)
    if not tokens:
        app.help_print([], console=app.error_console)
        return 2

    try:
        return app(tokens) or 0
    except CommandError as error:
        print_error(f"bindery: {error}")
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader of our output has ended
        return 1
