"""`python -m tests.load`: measure, print one table. The exit status is 1 when a build or a launch failed."""

import argparse
import os
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.load import (
    builds,
    footprint,
    launches,
    own_machine,
    resolve,
    resume,
    soak,
    target,
    target_watch,
    warm,
    watchers,
)
from tests.load.client import Place
from tests.load.stack import LoadStack
from tests.load.table import Row, machine, render, write_json
from tests.support.cluster_start import NoClusterError
from tests.support.engine import NoEngineError

SOAK = "soak"
"""Runs only if it is named: it takes half an hour."""
GROUPS = ("start", "idle", "quick", "resolve", "warm", "storm", "watchers", "resume", "builds", "packages", "large")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.load",
        description="Measure Bindery, print one table.",
        epilog=target.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default=",".join(GROUPS), help="groups, comma-separated: %(default)s; soak too")
    parser.add_argument("--launches", type=int, default=400, help="of one kind (default: %(default)s)")
    parser.add_argument("--at-once", default="1,10,50,200", help="launches at a time, each (default: %(default)s)")
    parser.add_argument("--followers", help="of one build (default: 1,100,1000; of a target's: 20)")
    parser.add_argument("--many-followers", action="store_true", help="5,000 followers too (needs `ulimit -n 12000`)")
    parser.add_argument("--storm", type=int, default=40, help="new links at once (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=30.0, help="of the group soak (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the group soak (default: the time)")
    parser.add_argument("--builds", default="50,500", help="queued at once, on a cluster (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=7, help="of resolve, packages and large (default: %(default)s)")
    parser.add_argument(
        "--target",
        metavar="URL",
        help="measure a running Bindery (its start token in BINDERY_START_TOKEN) or BinderHub",
    )
    parser.add_argument("--spec", help="for --target: launch this, as in git/<quoted url>/<ref>; built before")
    parser.add_argument("--watch", metavar="SPEC", help="for --target: watch the build of this; not built before")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON too")
    options = parser.parse_args()
    if bool(options.target) != bool(options.spec or options.watch):
        parser.error("--target goes with --spec, with --watch, or with both")
    options.at_once = _numbers(options.at_once)
    options.followers = _numbers(options.followers or ("20" if options.target else "1,100,1000"))
    options.only = [name.strip() for name in options.only.split(",")]
    if unknown := set(options.only) - {*GROUPS, SOAK}:
        parser.error(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}, {SOAK}")
    return options


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


async def _measure_target(options: argparse.Namespace) -> list[Row]:
    place = Place.of(options.target)
    rows: list[Row] = []
    if options.watch:
        rows += await target_watch.measure(place, options.watch, options.followers[-1])
    if options.spec:
        rows += await target.measure(place, options.spec, options.launches, options.at_once)
    return rows


async def _measure(options: argparse.Namespace, folder: Path) -> list[Row]:
    selection = set(options.only)
    rows: list[Row] = []
    if selection - {"resume", "builds", "packages", "large", SOAK}:
        stack = LoadStack(folder / "one")
        try:
            rows += await _one_stack(stack, selection, options)
        finally:
            await stack.stop()
    if "resume" in selection:
        _say("resume after a kill")
        rows += await resume.measure(folder / "two")
    if "builds" in selection:
        _say(f"{options.builds} builds on a cluster")
        try:
            rows += await builds.measure(_numbers(options.builds))
        except (NoClusterError, NoEngineError) as error:
            if os.environ.get("CI"):
                raise
            _say(f"not measured: {error}")
    if "packages" in selection:
        _say("builds on one's own machine")
        rows += await own_machine.packages(options.turns)
    if "large" in selection:
        _say("servers of a large environment")
        rows += await own_machine.large(options.turns)
    if SOAK in selection:
        rows += await soak.measure(folder / "soak", minutes=options.minutes, seed=options.seed, say=_say)
    return rows


async def _one_stack(stack: LoadStack, selection: set[str], options: argparse.Namespace) -> list[Row]:
    _say("start")
    rows = footprint.startup(await stack.start())
    if "start" in selection:
        rows += await footprint.restarts(stack)
    if "idle" in selection:
        _say("idle")
        rows += await footprint.idle(stack)
    if "quick" in selection:
        _say("small questions")
        rows += await footprint.quick_answers(stack)
    if "resolve" in selection:
        _say("resolves")
        rows += await resolve.measure(stack, options.turns)
    if "warm" in selection:
        _say("warm launches")
        rows += await warm.measure(stack, options.launches, options.at_once)
    if "storm" in selection:
        _say("storm")
        rows += await launches.storm(stack, options.storm)
    if "watchers" in selection:
        rows.append(Row("One build at 20 lines/s", ""))
        for followers in options.followers + [5000] * options.many_followers:
            _say(f"{followers} followers")
            rows += await watchers.measure(stack, followers)
    return rows


def _say(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    options = _options()
    where = machine()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends too
    if options.target:
        rows = uvloop.run(_measure_target(options))
        where = f"{options.target} from {where}"
    else:
        os.environ["BINDERY_START_TOKEN"] = secrets.token_urlsafe(24)  # read by the stacks and by their clients
        base = os.environ.get("BINDERY_LOAD_DIR")
        with tempfile.TemporaryDirectory(prefix="bindery-load-", dir=base, ignore_cleanup_errors=True) as folder:
            rows = uvloop.run(_measure(options, Path(folder)))
        where += "; JupyterHub and the forges are stubs, but for packages and large; all share the cores"
    print(f"\n{where}\n\n{render(rows)}")
    if options.json:
        write_json(options.json, rows, where)
    if failed := sum(row.failed for row in rows):
        sys.exit(f"{failed} builds or launches failed: the figures are not those of a Bindery that works.")


if __name__ == "__main__":
    main()
