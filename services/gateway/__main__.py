"""Run the gateway: `python -m services.gateway`."""

from services.common.web.serve import serve
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings

if __name__ == "__main__":
    settings = GatewaySettings()
    serve(create_app(settings), settings, service="gateway", drain_seconds=settings.drain_seconds)
