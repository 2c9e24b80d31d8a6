"""The pages: home, a link to confirm, a launch, about. Usable without JavaScript."""

import contextlib
import hashlib
from typing import Annotated
from urllib.parse import parse_qsl, quote, unquote, urlencode

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from services.common.models import LaunchOptions, LaunchState, Spec
from services.common.models.errors import BinderyError
from services.common.service.logging import shown
from services.gateway.edge.build_tokens import mint
from services.gateway.edge.origins import base_url, client_ip
from services.gateway.edge.sessions import check_form_token, form_token, principal
from services.gateway.launches.landing import asked_path, landing_url, require_hub
from services.gateway.launches.launches import Launches
from services.gateway.launches.links import LaunchForm, Link, RepositoryType, raw_spec, repository_type
from services.gateway.pages.launch_view import Progress
from services.gateway.pages.renderer import Pages, launches_of, pages_of, repository_types

_FORM_MAX_BYTES = 64 * 1024

router = APIRouter(include_in_schema=False)

FromPages = Annotated[Pages, Depends(pages_of)]
Types = Annotated[list[RepositoryType], Depends(repository_types)]
FromLaunches = Annotated[Launches, Depends(launches_of)]


async def sent_form(request: Request) -> dict[str, str]:
    """The fields of one of our own forms; its token's nonce stands under `nonce`.

    Raises `BinderyError`: `bad_request` for what is no form or too large, `forbidden` without a valid token.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise BinderyError("bad_request", "Send this as a form does: application/x-www-form-urlencoded.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_MAX_BYTES:
            raise BinderyError("bad_request", f"The form is too large: {_FORM_MAX_BYTES} bytes are the most.")
    try:
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=30, errors="strict"))
    except ValueError as error:
        raise BinderyError("bad_request", "The form can't be read.") from error
    fields["nonce"] = check_form_token(request, fields.pop("token", ""))
    return fields


SentForm = Annotated[dict[str, str], Depends(sent_form)]


@router.get("/")
async def home(request: Request, pages: FromPages, types: Types) -> Response:
    """The form. With its fields in the query, also their link and badge: the form's second button asks for that."""
    return _home(request, pages, types, LaunchForm.of(request.query_params, types))


def _home(
    request: Request, pages: Pages, types: list[RepositoryType], form_values: LaunchForm, status: int = 200
) -> Response:
    chosen = next((kind for kind in types if kind.id == form_values.provider), None)
    link, problem = None, None
    if chosen and (form_values.repository or status != 200):
        try:
            link = form_values.link(chosen)
        except BinderyError as error:
            problem = error.problem
    return pages.show(
        request,
        "home.html",
        status,
        types=types,
        chosen=chosen,
        form_values=form_values,
        link=link,
        problem=problem,
        refused=status != 200,
        base=base_url(request),
        token=form_token(request),
    )


@router.get("/v2/{provider}/{_spec:path}")
@router.get("/v2/{provider}")
async def confirm(request: Request, provider: str, pages: FromPages, types: Types) -> Response:
    """What a launch link would launch, with a button that does. The page itself starts nothing."""
    kind = repository_type(types, provider)
    spec = raw_spec(request.scope["raw_path"])
    if not kind.accepts(spec):
        form = kind.example or kind.label
        raise BinderyError(
            "bad_spec",
            f"{shown(unquote(spec)) or 'An empty link'!r} is not the link of a {kind.name} repository. Such a link "
            f"looks like /v2/{kind.id}/{_shape(kind)}, with a repository like {form}.",
        )
    repository, ref = kind.split(spec)
    link = Link(Spec(provider=provider, spec=spec), asked_path(request.query_params)[:4096])
    return pages.show(
        request,
        "confirm.html",
        kind=kind,
        repository=repository,
        ref=ref,
        link=link,
        token=form_token(request),
        stream=f"/build/{provider}/{spec}?build_token={mint(request, pages.settings, provider, spec)}",
    )


def _shape(kind: RepositoryType) -> str:
    repository = "<percent-encoded URL>" if kind.is_url_encoded else "<owner>/<name>" if kind.has_ref else "<name>"
    return f"{repository}/<ref>" if kind.has_ref else repository


@router.get("/repo/{owner}/{name}")
@router.get("/repo/{owner}/{name}/{_path:path}")
async def legacy_link(request: Request, owner: str, name: str) -> Response:
    """Links of the first Binder. BinderHub sends them to `master`; the default branch is what they mean."""
    rest = raw_spec(request.scope["raw_path"]).split("/", 1)
    path = unquote(rest[1]) if len(rest) == 2 else ""
    query = f"?urlpath={quote('/' + path, safe='')}" if path else ""
    target = f"/v2/gh/{quote(owner, safe='')}/{quote(name, safe='')}/HEAD{query}"
    return RedirectResponse(target, status_code=302)


@router.post("/launches")
async def launch(request: Request, form: SentForm, pages: FromPages, types: Types, launches: FromLaunches) -> Response:
    """Start what the form says, and show its progress. The same form sent twice starts one launch."""
    if "spec" in form:
        link = Link(Spec(provider=form.get("provider", "")[:64], spec=form["spec"][:4096]), form.get("path", "")[:4096])
        if not repository_type(types, link.spec.provider).accepts(link.spec.spec):
            raise BinderyError("bad_spec", f"{shown(unquote(link.spec.spec))!r} is not the link of such a repository.")
    else:
        form_values = LaunchForm.of(form, types)
        try:
            link = form_values.link(repository_type(types, form_values.provider))
        except BinderyError as error:
            return _home(request, pages, types, form_values, error.kind.status)
    options = LaunchOptions(path=asked_path({"urlpath": link.path}), rebuild=form.get("rebuild", "")[:64] or None)
    body_hash = hashlib.sha256(f"{link.spec}\0{options.model_dump_json()}".encode()).hexdigest()
    started, _created = await launches.start(
        link.spec,
        principal=principal(request),
        options=options,
        client_ip=client_ip(request),
        launch_host=base_url(request),
        idempotency_key=f"form-{form['nonce']}-{body_hash[:16]}",
        body_hash=body_hash,
    )
    return RedirectResponse(f"/launches/{started.launch_id}", status_code=303)


@router.get("/launches/{launch_id}")
async def show_launch(request: Request, launch_id: str, pages: FromPages, launches: FromLaunches) -> Response:
    """A launch: its steps, its log, and what can be done now."""
    found = await launches.read(launch_id, principal(request))
    server = await launches.server(found) if found.state is LaunchState.READY else None
    progress = Progress(found, server)
    return pages.show(
        request,
        "launch.html",
        launch=found,
        progress=progress,
        form_link=await _form_link(request, found.spec) if progress.needs_another_link else "/",
        token=form_token(request),
    )


async def _form_link(request: Request, spec: Spec) -> str:
    """The form, filled in with the repository and ref of `spec`."""
    fields = {"provider": spec.provider}
    with contextlib.suppress(BinderyError):
        repository, ref = repository_type(await repository_types(request), spec.provider).split(spec.spec)
        fields |= {"repository": repository, "ref": ref}
    return "/?" + urlencode(fields)


@router.get("/launches/{launch_id}/open")
async def open_server(request: Request, launch_id: str, launches: FromLaunches) -> Response:
    """Into the running server, at the path that was asked for; back to the launch where there is none (any more).

    Raises `BinderyError("hub_refused")` for a server that is not on the configured hub.
    """
    found = await launches.read(launch_id, principal(request))
    server = await launches.server(found) if found.state is LaunchState.READY else None
    target = f"/launches/{found.launch_id}"
    if server and server.url and Progress(found, server).is_running:
        url = require_hub(server.url, request.app.state.settings.hub_url)
        target = landing_url(url, server.token or "", found.options.path)
    return RedirectResponse(
        target, status_code=303, headers={"cache-control": "no-store", "referrer-policy": "no-referrer"}
    )


@router.post("/launches/{launch_id}/cancel")
async def cancel(request: Request, launch_id: str, _form: SentForm, launches: FromLaunches) -> Response:
    """Cancel a launch, and show it; one that has ended meanwhile is shown as it ended."""
    try:
        await launches.cancel(launch_id, principal(request))
    except BinderyError as error:
        if not error.has_code("conflict"):
            raise
    return RedirectResponse(f"/launches/{quote(launch_id, safe='')}", status_code=303)


@router.get("/about")
async def about(request: Request, pages: FromPages) -> Response:
    """What this is, and which release of it."""
    return pages.show(request, "about.html")
