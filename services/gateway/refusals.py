"""Responses to requests that the edge refuses: a page, an event stream or a problem, as the client asked for."""

from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from services.common.models.errors import BinderyError
from services.common.web.problems import problem_response
from services.gateway.edge.start_token import own_path, query_without
from services.gateway.pages.error_pages import problem_as_page, wants_page
from services.gateway.pages.renderer import Pages
from services.gateway.streaming.stream_responses import refused_stream


class RefusalRenderer:
    """Renders the refusals of the edge, and those of a gateway that still starts."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def refusal(self, request: Request, error: BinderyError) -> Response:
        """Return a page if a browser asked for one, or else the problem."""
        return problem_as_page(self._pages, request, problem_response(error.problem))

    def not_started(self, request: Request, error: BinderyError) -> Response:
        """Return a refused stream, a page or the problem, as the client asked for.

        A browser does not repeat an `EventSource` that was answered by another status than 200.
        """
        return refused_stream(error) if _asks_for_stream(request) else self.refusal(request, error)

    def start_token_required(self, request: Request, error: BinderyError) -> Response:
        """Return a form that asks for the start token, a refused stream or the problem, as the client asked for."""
        if _asks_for_stream(request):
            return refused_stream(error)
        if wants_page(request):
            return self._ask_for_start_token(request, error)
        return problem_response(error.problem, {"www-authenticate": 'Bearer realm="Bindery"'})

    def _ask_for_start_token(self, request: Request, error: BinderyError) -> Response:
        path = own_path(request)
        query, _ = query_without(request.scope["query_string"].decode("latin-1"), "token")
        is_repeatable = path != "/" or request.scope["path"] == "/"  # `own_path` replaces other requests' path by `/`
        fields = parse_qsl(query, keep_blank_values=True) if is_repeatable else []
        return self._pages.ask_for_start_token(error.problem, path, fields)


def _asks_for_stream(request: Request) -> bool:
    """Return whether a request asks for the stream of a launch, as BinderHub's clients do."""
    return request.scope["path"].startswith("/build/") and request.method in {"GET", "HEAD"}
