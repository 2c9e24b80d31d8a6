"""A builder worker with a part that `raises`, `lingers` when cancelled, or raises in a process that `hangs` then."""

import asyncio
import contextlib
import sys

from services.builder.executors.process.executor import ProcessExecutor
from services.builder.worker.__main__ import main
from services.builder.worker.worker import BuilderWorker
from services.common.web import serve


async def run_arq(self: BuilderWorker) -> None:
    """Look for no jobs."""
    if sys.argv[1] in {"raises", "hangs"}:
        raise RuntimeError("a bug")

    try:
        await asyncio.Event().wait()
    finally:
        if sys.argv[1] == "lingers":
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)


async def aclose(self: ProcessExecutor) -> None:
    """Never end."""
    await asyncio.Event().wait()


if __name__ == "__main__":
    serve.END_SECONDS = 1.0
    BuilderWorker.run_arq = run_arq  # type: ignore[method-assign]
    if sys.argv[1] == "hangs":
        ProcessExecutor.aclose = aclose  # type: ignore[method-assign]
    main()
