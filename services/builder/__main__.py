"""Run the builder's API: `python -m services.builder`."""

from services.builder.app import create_app
from services.builder.settings import BuilderSettings
from services.common.web.serve import serve

if __name__ == "__main__":
    settings = BuilderSettings()
    serve(create_app(settings), settings, service="builder")
