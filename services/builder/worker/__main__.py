"""Run a builder worker: `python -m services.builder.worker`."""

from services.builder.settings import BuilderSettings
from services.builder.worker.app import create_app
from services.common.web.serve import run_service

DRAIN_SECONDS = 1
"""Open requests are for health and metrics, and other workers wait for the builds of this one."""


def main() -> None:
    """Run a worker with the settings of the environment."""
    run_service(BuilderSettings, create_app, service="worker", drain_seconds=lambda _settings: DRAIN_SECONDS)


if __name__ == "__main__":
    main()
