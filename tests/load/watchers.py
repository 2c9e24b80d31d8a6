"""One build and many watchers: whether each gets every line, how late, and what it costs the gateway."""

import asyncio
import json
import sys

from tests.load.stack import LoadStack
from tests.load.table import Row
from tests.load.watched_build import PER_SECOND, WatchedBuild
from tests.support.forge import Forge
from tests.support.paths import CHECKOUT

_LINES = 200
_LATE_AFTER = 160


async def measure(stack: LoadStack, followers: int) -> list[Row]:
    """Follow one build of ten seconds with so many clients, each of which has launched it by the façade."""
    with Forge(stack.folder / f"repos-{followers}") as forge:
        build = await asyncio.to_thread(WatchedBuild.make, forge, f"watched-{followers}", stack.folder / "go", _LINES)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.load.watch",
            *(str(part) for part in (stack.gateway.port, build.path, followers, _LINES, _LATE_AFTER)),
            cwd=CHECKOUT, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(240):
            if await process.stdout.readline() != b"joined\n":
                raise RuntimeError(f"the {followers} followers did not all join")
            before = stack.cpu()
            build.go()
            await asyncio.sleep(_LINES / PER_SECOND)
            after = stack.cpu()
            summary = json.loads(await process.stdout.readline())
            await process.wait()
    seconds = _LINES / PER_SECOND
    shares = {name: (after[name] - before[name]) / seconds * 100 for name in ("gateway", "worker", "redis")}
    goal = {1000: "p99 <= 250 ms", 5000: "p99 <= 500 ms"}.get(followers, "")
    lag = f"p50 {summary['p50'] * 1000:.0f} ms, p99 {summary['p99'] * 1000:.0f} ms"
    cpu = ", ".join(f"{name} {share:.0f} %" for name, share in shares.items())
    name = f"{followers:,} follower{'s' if followers > 1 else ''}"
    whole = f"{summary['whole']:,} of {followers:,} got every line, {summary['per_second']:,.0f} lines/s"
    joined = (
        f"joined in {summary['join_seconds']:.1f} s; {summary['ready']:,} ready {summary['ready_seconds']:.1f} s after"
    )
    return [
        Row(f"{name}: lines", whole, goal="all", note=joined, numbers=summary, failed=followers - summary["ready"]),
        Row(f"{name}: lag", lag, goal=goal, note=f"CPU while it prints: {cpu}", numbers=shares),
        Row(f"{name}: one more after {_LATE_AFTER} lines", f"misses {summary['late_missing']}", goal="0"),
    ]
