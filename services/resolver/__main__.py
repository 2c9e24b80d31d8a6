"""`python -m services.resolver`: serve the resolver, with settings from the environment."""

from services.common.web.serve import run_service
from services.resolver.app import create_app
from services.resolver.settings import ResolverSettings

if __name__ == "__main__":
    run_service(ResolverSettings, create_app, service="resolver")
