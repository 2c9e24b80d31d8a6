"""Any running Bindery or BinderHub, by the façade alone."""

from tests.load.client import Place
from tests.load.launches import run
from tests.load.table import Row

HELP = """\
A target run goes through the façade of a running Bindery or BinderHub alone. It measures, with --spec, launches of a
link whose image is there, at each level of --at-once; and with --watch, one build of a link whose image is not there:
who of --followers gets every line, how far behind the first of them, and what one misses who joins later. It can't
measure what is seen only from inside: the hub's own time (a target's launches are told with it), CPU, memory and Redis,
the age of a line (the target's clock is another), nor what a kill does. Each launch starts a server there, each
follower of a build too in the end: keep the numbers to what the target has room for.
"""


async def measure(place: Place, spec: str, launches: int, levels: list[int]) -> list[Row]:
    """Launch one link whose image is there: alone, and as many at a time as each of `levels` says."""
    path = f"/build/{spec}"
    first = await run(place, lambda: path, 1, 1)
    rows = [Row(f"Launches of {spec}", ""), first.latency("the first", note="not warm yet, perhaps")]
    if not first.seconds:
        return rows
    for level in levels:
        result = await run(place, lambda: path, min(launches, 50) if level == 1 else max(launches, level), level)
        name = "alone" if level == 1 else f"{level} at once"
        text = f"{result.per_second:.1f} launches/s"
        rows += [
            result.latency(f"{name}: launch", note="the hub's own time included"),
            Row(f"{name}: rate", text, note=result.not_ready, numbers={"per_second": result.per_second}),
        ]
    return rows
