"""Run the builder's API: `python -m services.builder`."""

from services.builder.app import create_app
from services.builder.settings import BuilderSettings
from services.common.web.serve import run_service

if __name__ == "__main__":
    run_service(BuilderSettings, create_app, service="builder")
