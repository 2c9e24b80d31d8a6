"""What the services take while nothing happens, how soon they are there, and how fast they answer small questions."""

import asyncio
import json
import subprocess
import sys
import time

from tests.load.client import Place, repeat
from tests.load.processes import pss_bytes, rss_bytes, with_children
from tests.load.stack import LoadStack
from tests.load.table import Row
from tests.support.paths import CHECKOUT

QUICK = {
    "/badge_logo.svg": ("badge", ">= 4,836 /s"),
    "/": ("page", ">= 2,126 /s"),
    "/health": ("health", ">= 4,149 /s"),
    "/versions": ("versions", ">= 5,226 /s"),
}


def startup(times: dict[str, float]) -> list[Row]:
    """Return the rows of a start of everything at once."""
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in times.items() if name != "all")
    row = Row("all at once, until healthy", f"{times['all']:.1f} s", goal="<= 5 s", note=parts, numbers=times)
    return [Row("Start", ""), row]


async def restarts(stack: LoadStack) -> list[Row]:
    """Restart each service alone, the others running."""
    names = ("resolver", "builder", "worker", "launcher", "gateway")
    times = {name: await stack.restart(name) for name in names}
    text = ", ".join(f"{name} {seconds:.1f}" for name, seconds in times.items())
    return [Row("each alone, until healthy (s)", text, numbers=times)]


async def idle(stack: LoadStack, *, seconds: float = 4.0) -> list[Row]:
    """Memory and CPU with nothing to do."""
    await asyncio.sleep(2.0)
    before = stack.cpu()
    await asyncio.sleep(seconds)
    shares = {name: (after - before[name]) / seconds * 100 for name, after in stack.cpu().items()}
    pids = {name: with_children(stack.processes[name].pid) for name in stack.ours()}
    pss = {name: sum(map(pss_bytes, family)) / 2**20 for name, family in pids.items()}
    rss = {name: sum(map(rss_bytes, family)) / 2**20 for name, family in pids.items()}
    return [
        Row("Idle", ""),
        Row(
            "memory, PSS", f"{sum(pss.values()):.0f} MiB", goal="<= 350 MB",
            note=", ".join(f"{name} {mib:.0f}" for name, mib in pss.items()),
            numbers=pss | {"total": sum(pss.values())},
        ),
        Row("memory, RSS", f"{sum(rss.values()):.0f} MiB", numbers=rss | {"total": sum(rss.values())}),
        Row(
            "CPU, of one core", f"{sum(shares.values()):.1f} %",
            note=", ".join(f"{name} {share:.1f}" for name, share in shares.items()), numbers=shares,
        ),
    ]  # fmt: skip


async def quick_answers(stack: LoadStack, *, seconds: float = 2.0) -> list[Row]:
    """Badge, page, health and versions, over 16 kept connections from a process of its own."""
    rows = [Row("Requests per second, one gateway process", "")]
    for path, (name, goal) in QUICK.items():
        arguments = (str(stack.gateway.port), path, str(seconds))
        process = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-m", __name__, *arguments], cwd=CHECKOUT, capture_output=True, check=True
        )
        result = json.loads(process.stdout)
        note = f"{result['wrong']} answers were not 200" if result["wrong"] else ""
        text = f"{result['per_second']:,.0f} /s"
        rows.append(Row(f"{name} ({path})", text, goal=goal, note=note, numbers={"per_second": result["per_second"]}))
    return rows


def main() -> None:
    """Run the process that asks: `python -m tests.load.footprint PORT PATH SECONDS`."""
    import uvloop

    port, path, seconds = sys.argv[1:]
    place = Place("127.0.0.1", int(port))
    time.sleep(0.2)
    per_second, failures = uvloop.run(repeat(place, path, connections=16, seconds=float(seconds)))
    print(json.dumps({"per_second": per_second, "wrong": failures}))


if __name__ == "__main__":
    main()
