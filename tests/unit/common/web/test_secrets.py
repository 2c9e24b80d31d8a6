"""No service starts without the secrets that it needs."""

import os
import subprocess
import sys

import pytest

from services.gateway.app import create_app as gateway
from services.gateway.settings import GatewaySettings
from services.launcher.app import create_app as launcher
from services.launcher.settings import LauncherSettings
from tests.support.settings import settings_for

TOKEN = "a token"
SECRET = "s" * 32


@pytest.mark.parametrize("secret", ["", "s" * 31])
def test_services_that_sign_require_a_secret_that_cannot_be_guessed(secret: str) -> None:
    values = {"service_token": TOKEN, "installation_secret": secret}
    with pytest.raises(SystemExit, match=r"The gateway can't start: set BINDERY_INSTALLATION_SECRET to .* 32 char"):
        gateway(settings_for(GatewaySettings, values))
    with pytest.raises(SystemExit, match=r"The launcher can't start: set BINDERY_INSTALLATION_SECRET to .* 32 char"):
        launcher(settings_for(LauncherSettings, values))


def test_a_service_with_token_and_secret_starts() -> None:
    values = {"service_token": TOKEN, "installation_secret": SECRET}
    assert gateway(settings_for(GatewaySettings, values))
    assert launcher(settings_for(LauncherSettings, values))


@pytest.mark.parametrize("service", ["gateway", "launcher", "builder", "builder.worker", "resolver"])
@pytest.mark.slow
def test_no_service_starts_without_a_token(service: str) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BINDERY_")}
    result = subprocess.run(
        [sys.executable, "-m", f"services.{service}"], env=environ | {"BINDERY_INSTALLATION_SECRET": SECRET},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    name = service.replace(".", " ")
    assert result.stderr == (
        f"The {name} can't start: set BINDERY_SERVICE_TOKEN to a secret of your own, the same for every service.\n"
    )
