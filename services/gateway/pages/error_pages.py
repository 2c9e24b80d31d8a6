"""Errors as pages, for those who asked for a page; everybody else gets the problem as it is."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.common.models import Problem
from services.common.models.errors import BinderyError
from services.common.web.problems import problem_response
from services.gateway.pages.renderer import pages_of

_Handler = Callable[[Request, Any], Awaitable[Response]]
_FOR_PROGRAMS = ("/api/", "/build/")


def wants_page(request: Request) -> bool:
    """Whether an error is best told as a page: a browser asks, and not for something that programs use."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(_FOR_PROGRAMS)


async def _shown(request: Request, reply: Response) -> Response:
    """`reply`, which is a problem, as a page where one was asked for."""
    if not wants_page(request):
        return reply
    problem = Problem.model_validate_json(bytes(reply.body))
    kept = {name: value for name, value in reply.headers.items() if name in {"retry-after", "allow"}}
    return (await pages_of(request)).problem(request, problem, kept)


async def refusal(request: Request, error: BinderyError) -> Response:
    """The answer to a request that no route gets to see."""
    return await _shown(request, problem_response(error.problem))


def _as_page(handler: _Handler) -> _Handler:
    async def handle(request: Request, error: Any) -> Response:
        return await _shown(request, await handler(request, error))

    return handle


def install_error_pages(app: FastAPI) -> None:
    """Put pages around the problem handlers that `app` has by now."""
    for kind in (BinderyError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _as_page(app.exception_handlers[kind]))  # type: ignore[arg-type]
