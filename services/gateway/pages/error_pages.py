"""Errors as pages for clients that asked for HTML; all others get the problem document unchanged."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.common.models import Problem
from services.common.models.errors import BinderyError
from services.gateway.pages.renderer import Pages

_Handler = Callable[[Request, Any], Awaitable[Response]]
_FOR_PROGRAMS = ("/api/", "/build/")
_COPIED_HEADERS = frozenset({"retry-after", "allow"})


def wants_page(request: Request) -> bool:
    """Return whether an error is best shown as a page: a browser asks, and not for an address that programs use."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(_FOR_PROGRAMS)


def problem_as_page(pages: Pages, request: Request, response: Response) -> Response:
    """Return the problem in `response` as a page if the client wants one, or else `response` itself."""
    if not wants_page(request):
        return response
    problem = Problem.model_validate_json(bytes(response.body))
    headers = {name: value for name, value in response.headers.items() if name in _COPIED_HEADERS}
    return pages.problem(request, problem, headers)


def install_error_pages(app: FastAPI, pages: Pages) -> None:
    """Wrap the problem handlers that `app` has by now, so that browsers get their problems as pages."""

    def with_pages(handler: _Handler) -> _Handler:
        async def handle(request: Request, error: Any) -> Response:
            return problem_as_page(pages, request, await handler(request, error))

        return handle

    for kind in (BinderyError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, with_pages(app.exception_handlers[kind]))  # type: ignore[arg-type]
