"""Any running Bindery or BinderHub, by the façade alone."""

from tests.load.client import Place
from tests.load.launches import run
from tests.load.table import Row


async def measure(place: Place, spec: str, launches: int, at_once: int) -> list[Row]:
    """Launches of one link whose image is there: alone, ten at a time, and as many as `at_once`."""
    path = f"/build/{spec}"
    first = await run(place, lambda: path, 1, 1)
    rows = [
        Row(f"Launches of {spec}", ""),
        first.latency("the first", note="not warm yet, perhaps"),
    ]
    if not first.seconds:
        return rows
    rows.append((await run(place, lambda: path, min(launches, 50), 1)).latency("alone"))
    rows.append((await run(place, lambda: path, launches, min(10, at_once))).latency("10 at once"))
    many = await run(place, lambda: path, max(launches, at_once), at_once)
    text = f"{many.per_second:.1f} launches/s"
    return [
        *rows,
        many.latency(f"{at_once} at once"),
        Row(f"{at_once} at once", text, "", many.not_ready, {"per_second": many.per_second}),
    ]
