"""Run the launcher: `python -m services.launcher`."""

from services.common.web.serve import run_service
from services.launcher.app import create_app
from services.launcher.settings import LauncherSettings

if __name__ == "__main__":
    run_service(LauncherSettings, create_app, service="launcher")
