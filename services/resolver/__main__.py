"""`python -m services.resolver`: serve the resolver, with settings from the environment."""

from services.common.web.serve import serve
from services.resolver.app import create_app
from services.resolver.settings import ResolverSettings

if __name__ == "__main__":
    settings = ResolverSettings()
    serve(create_app(settings), settings, service="resolver")
