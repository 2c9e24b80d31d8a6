"""A builder worker with a part that `raises`, or `lingers` when cancelled.

After a part has raised, the process `hangs` instead of ending, or it takes its time until it `hands_over`.
"""

import asyncio
import contextlib
import sys

from services.builder.executors.process.executor import ProcessExecutor
from services.builder.worker.__main__ import DRAIN_SECONDS, main
from services.builder.worker.worker import BuilderWorker
from services.common.records.leases import ServiceMember
from services.common.web import serve


async def run_arq(self: BuilderWorker) -> None:
    """Look for no jobs."""
    if sys.argv[1] != "lingers":
        raise RuntimeError("a bug")

    try:
        await asyncio.Event().wait()
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


async def aclose(self: ProcessExecutor) -> None:
    """Never end."""
    await asyncio.Event().wait()


async def hand_over_late(self: ServiceMember) -> None:
    """Hand over what this process owns when all other time for its end is over."""
    await asyncio.sleep(DRAIN_SECONDS + serve.END_SECONDS + 0.5)
    await hand_over(self)


hand_over = ServiceMember.hand_over

if __name__ == "__main__":
    serve.END_SECONDS = 1.0
    BuilderWorker.run_arq = run_arq  # type: ignore[method-assign]
    if sys.argv[1] == "hangs":
        ProcessExecutor.aclose = aclose  # type: ignore[method-assign]
    if sys.argv[1] == "hands_over":
        ServiceMember.hand_over = hand_over_late  # type: ignore[method-assign]
    main()
