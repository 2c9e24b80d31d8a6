"""The console script `bindery`: the embedded stack (`up`, `url`, `stop`, `clean`, `doctor`) and the client
(`launch`, `log`, `cancel`, `queue`)."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bindery.client import Client, GatewayError, split_spec
from bindery.start_token import is_loopback, running_gateway

CHECKOUT = Path(__file__).resolve().parent.parent
NO_CHECKOUT = (
    "`bindery {command}` runs from a checkout of Bindery, and this is the client alone: clone the repository and "
    "run `make up` in it."
)
WINDOWS = "Bindery runs on Linux and macOS. On Windows, run it inside WSL2: `wsl --install`, then `make up` in there."
HOW_TO_GET_IN = (
    " The command line finds the token where BINDERY_DATA_DIR names the data folder of the Bindery that runs at "
    "{gateway}, or BINDERY_START_TOKEN the token."
)
DEFAULT_GATEWAY = "http://127.0.0.1:8585"
_BUILD_ID = re.compile(r"[0-9a-f]{24}-[0-9]+")
_UNPRINTABLE = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except GatewayError as error:
        is_locked_out = error.code == "start_token_required" and is_loopback(options.gateway)
        advice = HOW_TO_GET_IN.format(gateway=options.gateway) if is_locked_out else ""
        return _complain(f"{error}{advice} [{error.code}]" if error.code else str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read us has had enough
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bindery", description="From a link to a running Jupyter.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Callable[[argparse.Namespace], int], description: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=description, description=description)
        one.set_defaults(run=run, command=name)
        return one

    command("up", _local, "Start everything on this machine, and keep it running until Ctrl-C.")
    command("url", _local, "Print the address of the Bindery that runs on this machine, with its start token.")
    command("stop", _local, "End the Bindery that runs on this machine.")
    clean = command("clean", _local, "Delete the data folder, after asking.")
    clean.add_argument("--force", action="store_true", help="don't ask")
    command("doctor", _local, "Check what `up` needs, and say what to do about what is missing.")

    launch = command("launch", _launch, "Launch a repository and print the address of its server.")
    launch.add_argument("repository", metavar="provider/spec", help="as in a badge's link: gh/org/repo/HEAD")
    launch.add_argument("--path", default="", help="what to open in the server")
    launch.add_argument("--detach", action="store_true", help="start it, print its page's address and leave it alone")
    log = command("log", _log, "Print what a build has said so far.")
    log.add_argument("build_id", metavar="build")
    log.add_argument("--lines", type=int, default=0, help="only the first so many, or, negative, the last")
    cancel = command("cancel", _cancel, "Cancel a launch or a build.")
    cancel.add_argument("id", metavar="launch-or-build")
    queue = command("queue", _queue, "Print how many builds wait and run, and what room there is.")
    for one in (launch, log, cancel, queue):
        one.add_argument(
            "--gateway",
            default=os.environ.get("BINDERY_GATEWAY_URL") or running_gateway() or DEFAULT_GATEWAY,
            help="default: %(default)s",
        )
    return parser


def _local(options: argparse.Namespace) -> int:
    """The commands that need the rest of the checkout, imported only now: a bare wheel lacks it."""
    if sys.platform == "win32":
        return _complain(WINDOWS)
    if not (CHECKOUT / "deploy" / "local").is_dir():
        return _complain(NO_CHECKOUT.format(command=options.command))
    if str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))
    try:
        return _in_checkout(options)
    except ModuleNotFoundError as missing:
        return _complain(f"The Python package {missing.name} is missing here: run `make up` in {CHECKOUT}.")


def _in_checkout(options: argparse.Namespace) -> int:
    from deploy.local.settings import StartupError, read_settings

    try:
        settings = read_settings()
        if options.command == "up":
            from deploy.local.up import up

            return up(settings)
        if options.command == "doctor":
            from bindery.doctor import examine, table

            findings = examine(settings)
            print(table(findings))
            return 0 if all(finding.is_well for finding in findings) else 1

        if options.command == "url":
            from deploy.local.start_token import running_address

            print(running_address(settings.run_dir))
            return 0

        from deploy.local.stop import clean, stop

        print(stop(settings) if options.command == "stop" else clean(settings, force=options.force))
        return 0
    except StartupError as refused:
        return _complain(str(refused))


def _launch(options: argparse.Namespace) -> int:
    try:
        provider, spec = split_spec(options.repository)
    except ValueError as error:
        return _complain(str(error))
    with Client(options.gateway) as bindery:
        launch = bindery.launch(provider, spec, path=options.path, detached=options.detach)
        if options.detach:
            print(launch.address)
            return 0
        return _follow(bindery, launch.launch_id)


def _log(options: argparse.Namespace) -> int:
    with Client(options.gateway) as bindery:
        log = bindery.build_log(options.build_id, lines=options.lines)
    print(_UNPRINTABLE.sub("", log), end="")
    return 0


def _cancel(options: argparse.Namespace) -> int:
    with Client(options.gateway) as bindery:
        if _BUILD_ID.fullmatch(options.id):
            bindery.cancel_build(options.id, operator_token=os.environ.get("BINDERY_OPERATOR_TOKEN", ""))
        else:
            bindery.cancel(options.id)
    return 0


def _queue(options: argparse.Namespace) -> int:
    with Client(options.gateway) as bindery:
        queue = bindery.queue(operator_token=os.environ.get("BINDERY_OPERATOR_TOKEN", ""))
    print(f"waiting  {queue.depth}" + (f", the first for {queue.oldest_waiting_seconds:.0f} s" if queue.depth else ""))
    print(f"running  {queue.running} of {queue.capacity}")
    for worker in queue.workers:
        print(f"worker   {worker.running} of {worker.slots}  {worker.name}".rstrip())
    return 0


def _follow(bindery: Client, launch_id: str) -> int:
    """Progress goes to standard error and the address alone to standard output, for `open $(bindery launch ...)`."""
    for event in bindery.events(launch_id):
        if event.message:
            _tell(event.message.removesuffix("\n"))
        if event.phase == "ready":
            print(event.address)
            return 0
        if event.is_final:
            code = f" [{event.code}]" if event.code else ""
            if event.problem:
                _tell((event.problem if event.problem not in event.message else "The launch failed.") + code)
            elif event.phase == "cancelled":
                _tell("The launch was cancelled.")
            return 1
    return 1


def _tell(line: str) -> None:
    # What a repository's build prints is a stranger's: no terminal escapes of theirs reach the user's terminal.
    print(_UNPRINTABLE.sub("", line), file=sys.stderr, flush=True)


def _complain(line: str) -> int:
    _tell(f"bindery: {line}")
    return 1
