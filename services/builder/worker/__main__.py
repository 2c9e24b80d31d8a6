"""Run a builder worker: `python -m services.builder.worker`."""

import asyncio
import os
import sys

import uvloop

from services.builder.settings import BuilderSettings
from services.builder.worker.run import NAME, run
from services.common.service.logging import configure_logging
from services.common.service.setting_names import warn_of_unknown_variables
from services.common.web.auth import require_secrets


def main() -> int:
    """Run a worker with the settings of the environment, and return its exit status."""
    settings = BuilderSettings()
    require_secrets(settings, NAME)
    configure_logging(service="worker", level=settings.log_level, form=settings.log_format)
    warn_of_unknown_variables(os.environ)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(settings))


if __name__ == "__main__":
    sys.exit(main())
