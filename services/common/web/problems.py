"""Errors as `application/problem+json` (RFC 9457): every error of a service is answered with a problem."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from services.common.models import Problem
from services.common.models.error_codes import KINDS
from services.common.models.errors import BinderyError
from services.common.models.problem import PROBLEM_MEDIA_TYPE
from services.common.redis.client import REDIS_PY_UNAVAILABLE
from services.common.service.logging import get_logger

log = get_logger(__name__)

RESPONSES: dict[int | str, dict[str, object]] = {
    "default": {"model": Problem, "description": "A problem: what went wrong and whose move it is"}
}


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Return a response whose body is `problem`, with `Retry-After` (whole seconds) if a retry can help."""
    reply = dict(headers or {})
    if problem.retry_after_seconds:
        reply["Retry-After"] = str(max(1, round(problem.retry_after_seconds)))
    return Response(problem.model_dump_json(), problem.status, reply, PROBLEM_MEDIA_TYPE)


def _code_of_status(status: int) -> str:
    codes = {
        400: "bad_request",
        401: "unauthorized",
        403: "forbidden",
        404: "not_found",
        409: "conflict",
        413: "request_too_large",
    }
    return codes.get(status, "bad_request" if status < 500 else "internal")


def _describe_problems(document: dict[str, Any]) -> dict[str, Any]:
    """Give an OpenAPI document our errors' media type, remove FastAPI's own error schema, and return it."""
    for operation in (operation for item in document["paths"].values() for operation in item.values()):
        replies = operation["responses"]
        if "HTTPValidationError" in str(replies.get("422")):
            del replies["422"]
        content = replies.get("default", {}).get("content", {})
        if schema := content.pop("application/json", None):
            content[PROBLEM_MEDIA_TYPE] = schema
    for name in ("HTTPValidationError", "ValidationError"):
        document.get("components", {}).get("schemas", {}).pop(name, None)
    return document


def install_problem_handlers(app: FastAPI) -> None:
    """Make `app` answer every error with a problem, and describe that in its OpenAPI document."""
    original = app.openapi
    app.openapi = lambda: _describe_problems(original())  # type: ignore[method-assign]

    @app.exception_handler(BinderyError)
    async def _on_bindery_error(_request: Request, error: BinderyError) -> Response:
        return problem_response(error.problem)

    @app.exception_handler(HTTPException)
    async def _on_http_error(_request: Request, error: HTTPException) -> Response:
        kind = KINDS[_code_of_status(error.status_code)]
        sentence = str(error.detail)
        is_framework_phrase = sentence == HTTPStatus(error.status_code).phrase
        detail = "" if is_framework_phrase else sentence
        problem = BinderyError(kind.code, detail).problem.updated(status=error.status_code)
        headers = dict(error.headers or {})
        if "GET" in (allowed := headers.get("Allow", "").split(", ")) and "HEAD" not in allowed:
            headers["Allow"] = ", ".join([*allowed, "HEAD"])  # FastAPI's routes don't know
        return problem_response(problem, headers)

    @app.exception_handler(RequestValidationError)
    async def _on_invalid_request(_request: Request, error: RequestValidationError) -> Response:
        mistakes = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()[:5])
        return problem_response(BinderyError("bad_request", f"{mistakes}.").problem.updated(status=422))

    async def _on_redis_unavailable(_request: Request, error: Exception) -> Response:
        log.warning("redis_away", doing="answer", error=str(error))
        return problem_response(BinderyError("redis_unavailable").problem)

    for error_class in REDIS_PY_UNAVAILABLE:
        app.add_exception_handler(error_class, _on_redis_unavailable)

    @app.exception_handler(Exception)
    async def _on_unforeseen_error(_request: Request, error: Exception) -> Response:
        log.error("unforeseen_error", exc_info=error)
        return problem_response(BinderyError("internal").problem)
