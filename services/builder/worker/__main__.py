"""Run a builder worker: `python -m services.builder.worker`."""

from services.builder.settings import BuilderSettings
from services.builder.worker.app import create_app
from services.common.web.serve import serve

DRAIN_SECONDS = 1
"""Open requests are for health and metrics, and other workers wait for the builds of this one."""


def main() -> None:
    """Run a worker with the settings of the environment."""
    settings = BuilderSettings()
    serve(create_app(settings), settings, service="worker", drain_seconds=DRAIN_SECONDS)


if __name__ == "__main__":
    main()
