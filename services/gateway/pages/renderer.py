"""Rendering of the pages: templates, their filters and globals, and errors for people."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from services.common.models import Problem
from services.gateway.edge.sessions import keep_session
from services.gateway.launches.repository_types import RepositoryType
from services.gateway.pages.launch_page import duration, whose_move
from services.gateway.pages.static_assets import static_url
from services.gateway.settings import GatewaySettings

TEMPLATES = Path(__file__).parent / "templates"
_REORDERING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Pages:
    """Renders templates.

    Templates in `folders` come first: an operator's `base.html` replaces ours, and may extend `templates/base.html`,
    which is always ours (as with BinderHub).
    """

    def __init__(self, settings: GatewaySettings, folders: Sequence[Path] = (), version: str = "") -> None:
        self.settings = settings
        self._configs: list[dict[str, Any]] = []
        self._types: list[RepositoryType] = []

        self._environment = Environment(
            loader=FileSystemLoader([*folders, TEMPLATES, TEMPLATES.parent]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=settings.dev_mode,
        )
        self._environment.filters.update(plain=_plain, web_link=_web_link, duration=duration)
        self._environment.globals.update(
            static=static_url,
            home="/",
            version=version,
            local=settings.local_mode,
            containers=settings.executor != "process",
            whose_move=whose_move,
        )

    def types(self, configs: list[dict[str, Any]]) -> list[RepositoryType]:
        """Return the repository types of providers' `configs`, parsed again only if these have changed."""
        if configs is not self._configs:
            self._configs = configs
            self._types = [RepositoryType.of(config) for config in configs]
        return self._types

    def show(self, request: Request, template: str, status: int = 200, **context: object) -> Response:
        """Render a page for this browser alone, which gets its session's cookie if it has none yet."""
        html = self._environment.get_template(template).render(context)
        response = HTMLResponse(html, status, {"cache-control": "no-store"})
        keep_session(request, response)
        return response

    def problem(self, request: Request, problem: Problem, headers: dict[str, str] | None = None) -> Response:
        """Render an error for a person."""
        response = self.show(request, "error.html", problem.status, problem=problem)
        response.headers.update(headers or {})
        return response

    def ask_for_start_token(self, problem: Problem, path: str, fields: list[tuple[str, str]]) -> Response:
        """Render a form that asks for the start token and goes on to `path` with `fields`. Sets no cookie."""
        html = self._environment.get_template("start_token.html").render(problem=problem, path=path, fields=fields)
        return HTMLResponse(html, problem.status, {"cache-control": "no-store"})

    def ended(self, problem: Problem, *, has_route: bool, static: Callable[[str], str]) -> str:
        """Render the page about a server that has ended, or that only `has_route` still, for another host than ours.

        `static` returns the address that a static file has there.
        """
        home = self.settings.public_url.rstrip("/") + "/"
        template = self._environment.get_template("ended.html")
        return template.render(problem=problem, has_route=has_route, static=static, home=home)


def _plain(text: object) -> str:
    """Return text from elsewhere without the marks that reorder the text around them."""
    return _REORDERING.sub("", str(text))


def _web_link(url: object) -> str:
    """Return `url` if a link on a page may have it, or else an empty string."""
    return str(url) if str(url).lower().startswith(("https://", "http://")) else ""
