"""The pages: home, a link to confirm, a launch, about. Usable without JavaScript."""

import contextlib
import hashlib
from typing import Annotated
from urllib.parse import parse_qsl, quote, unquote, urlencode

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from services.common.git.ref_names import may_be_anybodys
from services.common.models import Launch, LaunchOptions, LaunchState, Problem, Server, Spec
from services.common.models.errors import BinderyError
from services.common.service.redaction import quotable
from services.gateway.context import GatewayContext
from services.gateway.edge.build_tokens import create_build_token
from services.gateway.edge.request_scope import base_url, client_ip
from services.gateway.edge.sessions import check_form_token, form_token, principal
from services.gateway.launches.addresses.launch_links import mended_spec
from services.gateway.launches.addresses.questions import Detected
from services.gateway.launches.landing import landing_url, path_from_query, require_hub
from services.gateway.launches.launch_form import LaunchForm
from services.gateway.launches.links import Link, raw_spec
from services.gateway.launches.repository_types import RepositoryType, repository_type, sites_of
from services.gateway.pages.launch_page import LaunchPage
from services.gateway.routes.dependencies import Context, RepositoryTypes

_FORM_MAX_BYTES = 64 * 1024
_SPEC_MAX_LENGTH = 4096
_PATH_MAX_LENGTH = 4096

router = APIRouter(include_in_schema=False)


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of one of our own forms, with the nonce of its token as `nonce`.

    Raise `BinderyError`: `bad_request` for a body that is not a form or too large, `forbidden` without a valid token.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise BinderyError("bad_request", "Send this as a form does: application/x-www-form-urlencoded.")

    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_MAX_BYTES:
            raise BinderyError("bad_request", f"The form is too large: {_FORM_MAX_BYTES} bytes at most are accepted.")

    try:
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=30, errors="strict"))
    except ValueError as error:
        raise BinderyError("bad_request", "The form can't be read.") from error
    fields["nonce"] = check_form_token(request, fields.pop("token", ""))
    return fields


FormFields = Annotated[dict[str, str], Depends(read_form)]


@router.get("/")
async def home(request: Request, context: Context, types: RepositoryTypes) -> Response:
    """Show the launch form. With fields in the query (the form's second button), also their link and badge."""
    form_values = LaunchForm.of(request.query_params, types)
    detected = None
    problem = None
    if form_values.repository:
        try:
            detected = await context.detected(form_values.reading(types))
        except BinderyError as error:
            problem = error.problem
    return _home(request, context, types, form_values, detected=detected, problem=problem)


def _home(
    request: Request,
    context: GatewayContext,
    types: list[RepositoryType],
    form_values: LaunchForm,
    *,
    detected: Detected | None = None,
    problem: Problem | None = None,
    status: int = 200,
) -> Response:
    chosen = next((candidate for candidate in types if candidate.id == form_values.provider), None)
    return context.pages.show(
        request,
        "home.html",
        status,
        types=types,
        chosen=chosen,
        form_values=form_values,
        detected=detected,
        link=detected.link if detected else None,
        problem=problem,
        refused=status != 200,
        base=base_url(request),
        token=form_token(request),
    )


@router.get("/v2/{provider}/{_spec:path}")
@router.get("/v2/{provider}")
async def confirm(request: Request, provider: str, context: Context, types: RepositoryTypes) -> Response:
    """Show the repository of a launch link, with a button that launches it. The page itself starts nothing.

    A link whose URL was not encoded as a whole, or was decoded on the way, redirects to the one that was meant.
    """
    linked_type = repository_type(types, provider)
    spec = raw_spec(request.scope["raw_path"])
    if mended := mended_spec(linked_type, spec, sites_of(types)):
        query = request.scope["query_string"].decode("latin-1")
        return RedirectResponse(f"/v2/{linked_type.id}/{mended}{f'?{query}' if query else ''}", status_code=302)
    linked_type.check(spec)

    repository, ref = linked_type.split(spec)
    build_token = create_build_token(request, context.settings, provider, spec)
    return context.pages.show(
        request,
        "confirm.html",
        repository_type=linked_type,
        repository=repository,
        ref=ref,
        is_anybodys=linked_type.has_forks and may_be_anybodys(ref),
        link=Link(Spec(provider=provider, spec=spec), path_from_query(request.query_params)[:_PATH_MAX_LENGTH]),
        token=form_token(request),
        stream=f"/build/{provider}/{spec}?build_token={build_token}",
    )


@router.get("/repo/{owner}/{name}")
@router.get("/repo/{owner}/{name}/{_path:path}")
async def legacy_link(request: Request, owner: str, name: str) -> Response:
    """Redirect a link of the first Binder to the default branch; BinderHub redirects it to `master`."""
    rest = raw_spec(request.scope["raw_path"]).split("/", 1)
    path = unquote(rest[1]) if len(rest) == 2 else ""
    query = f"?urlpath={quote('/' + path, safe='')}" if path else ""
    target = f"/v2/gh/{quote(owner, safe='')}/{quote(name, safe='')}/HEAD{query}"
    return RedirectResponse(target, status_code=302)


@router.post("/launches")
async def create_launch(request: Request, fields: FormFields, context: Context, types: RepositoryTypes) -> Response:
    """Start the form's launch, and redirect to its page. The same form sent twice starts one launch."""
    if "spec" in fields:
        link = _confirmed_link(fields, types)
    else:
        form_values = LaunchForm.of(fields, types)
        try:
            detected = await context.detected(form_values.reading(types))
        except BinderyError as error:
            status = error.kind.status
            return _home(request, context, types, form_values, problem=error.problem, status=status)
        if detected.is_guess:  # to be launched by another click, now that the form says which branch it would be
            return _home(request, context, types, form_values.with_ref(detected.ref), detected=detected)
        link = detected.link

    options = LaunchOptions(
        path=path_from_query({"urlpath": link.path}), rebuild=fields.get("rebuild", "")[:64] or None
    )
    body_hash = hashlib.sha256(f"{link.spec}\0{options.model_dump_json()}".encode()).hexdigest()
    launch, _is_new = await context.launches.start(
        link.spec,
        principal=principal(request),
        options=options,
        client_ip=client_ip(request),
        launch_host=base_url(request),
        idempotency_key=f"form-{fields['nonce']}-{body_hash[:16]}",
        body_hash=body_hash,
    )
    return RedirectResponse(f"/launches/{launch.launch_id}", status_code=303)


def _confirmed_link(fields: dict[str, str], types: list[RepositoryType]) -> Link:
    """Return the link in the form of a link's or a launch's page. Raise `BinderyError`."""
    spec = Spec(provider=fields.get("provider", "")[:64], spec=fields["spec"][:_SPEC_MAX_LENGTH])
    if not repository_type(types, spec.provider).accepts(spec.spec):
        raise BinderyError("bad_spec", f"{quotable(unquote(spec.spec))!r} is not the link of such a repository.")
    return Link(spec, fields.get("path", "")[:_PATH_MAX_LENGTH])


@router.get("/launches/{launch_id}")
async def show_launch(request: Request, launch_id: str, context: Context) -> Response:
    """Show a launch: its steps, its log, and the next possible actions."""
    launch, server = await _read(request, launch_id, context)
    page = LaunchPage(launch, server)

    form_link = await _form_link(context, launch.spec) if page.needs_another_link else "/"
    return context.pages.show(
        request,
        "launch.html",
        launch=launch,
        page=page,
        form_link=form_link,
        token=form_token(request),
    )


async def _read(request: Request, launch_id: str, context: GatewayContext) -> tuple[Launch, Server | None]:
    """Return a launch, with its server if that became ready."""
    launch = await context.launches.read(launch_id, principal(request))
    server = await context.launches.server(launch) if launch.state is LaunchState.READY else None
    return launch, server


async def _form_link(context: GatewayContext, spec: Spec) -> str:
    """Return the address of the form, filled in with the repository and ref of `spec`."""
    fields = {"provider": spec.provider}
    with contextlib.suppress(BinderyError):
        repository, ref = repository_type(await context.repository_types(), spec.provider).split(spec.spec)
        fields |= {"repository": repository, "ref": ref}
    return "/?" + urlencode(fields)


@router.get("/launches/{launch_id}/open")
async def open_server(request: Request, launch_id: str, context: Context) -> Response:
    """Redirect into the running server, at the requested path; if none is running, back to the launch's page.

    Raise `BinderyError("hub_refused")` for a server that is not on the configured hub.
    """
    launch, server = await _read(request, launch_id, context)
    target = f"/launches/{launch.launch_id}"
    if server and server.url and LaunchPage(launch, server).is_running:
        url = require_hub(server.url, context.settings.hub_url)
        target = landing_url(url, server.token or "", launch.options.path)
    return RedirectResponse(
        target, status_code=303, headers={"cache-control": "no-store", "referrer-policy": "no-referrer"}
    )


@router.post("/launches/{launch_id}/cancel")
async def cancel_launch(request: Request, launch_id: str, _fields: FormFields, context: Context) -> Response:
    """Cancel a launch, and redirect to its page, which shows the end of a launch that has ended meanwhile."""
    try:
        await context.launches.cancel(launch_id, principal(request))
    except BinderyError as error:
        if not error.has_code("conflict"):
            raise
    return RedirectResponse(f"/launches/{quote(launch_id, safe='')}", status_code=303)


@router.get("/about")
async def about(request: Request, context: Context) -> Response:
    """Show the page about Bindery and its release."""
    return context.pages.show(request, "about.html")
