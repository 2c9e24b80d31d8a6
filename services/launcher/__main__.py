"""Run the launcher: `python -m services.launcher`."""

from services.common.web.serve import serve
from services.launcher.app import create_app
from services.launcher.settings import LauncherSettings

if __name__ == "__main__":
    settings = LauncherSettings()
    serve(create_app(settings), settings, service="launcher")
