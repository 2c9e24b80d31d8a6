"""Run the gateway: `python -m services.gateway`."""

from services.common.web.serve import run_service
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings

if __name__ == "__main__":
    run_service(GatewaySettings, create_app, service="gateway", drain_seconds=lambda settings: settings.drain_seconds)
