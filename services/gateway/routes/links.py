"""The v1 API: what an address means, what a link means now, and the types of repositories that there are."""

from fastapi import APIRouter, Request
from pydantic import Field

from services.common.models import Contract, ResolveRequest, Spec, Visibility
from services.common.web.problems import RESPONSES
from services.gateway.edge.request_scope import base_url
from services.gateway.launches.addresses.address import ADDRESS_MAX_LENGTH
from services.gateway.launches.addresses.reader import read_address
from services.gateway.launches.links import Link
from services.gateway.launches.repository_types import repository_type
from services.gateway.routes.dependencies import Context, RepositoryTypes

router = APIRouter(prefix="/api/v1", tags=["links"], responses=RESPONSES)


class DetectRequest(Contract):
    """The body of `POST /api/v1/detect`."""

    address: str = Field(
        max_length=ADDRESS_MAX_LENGTH,
        examples=["https://github.com/binder-examples/requirements/blob/master/index.ipynb"],
        description="What a person pasted: the address of a repository or of one of its pages, a launch link, a badge, "
        "a DOI, or the short name of a repository.",
    )
    provider: str = Field("", max_length=64, description="The repository type to read it as, where there are several.")


class DetectedLink(Contract):
    """What an address means: the `provider` and `spec` to launch, and the `path` to open, as for a launch.

    `repository` and `ref` are for people; the ref is empty for a type without refs. `link` is the launch link.
    """

    provider: str
    spec: str
    path: str
    repository: str
    ref: str
    link: str
    notice: str | None = Field(None, description="How the address was understood, or what could not be asked.")
    is_guess: bool = Field(False, description="Whether the forge could not be asked where the branch's name ends.")


class ProviderView(Contract):
    """A type of repositories: `id` is the first part of its links, and `spec` the form of the rest."""

    id: str
    name: str
    spec: str
    example: str
    has_ref: bool = Field(description="Whether its links end with a ref; `default_ref` is the usual one.")
    default_ref: str
    is_url_encoded: bool = Field(description="Whether the repository is written as a percent-encoded URL.")


class ResolvedLink(Contract):
    """What a link means now: the repository at one commit, or one version of an archive.

    `link` leads to exactly that, for ever, and `ref_url` to a page that shows it.
    """

    provider: str
    spec: str
    repo_url: str
    ref: str
    ref_url: str
    resolved_spec: str
    display_name: str
    link: str
    visibility: Visibility
    notice: str | None = Field(None, description="What resolving changed: another branch, or an answer of earlier.")


@router.get("/providers")
async def providers(types: RepositoryTypes) -> list[ProviderView]:
    """Return the types of repositories that can be launched here, in the order of the form."""
    return [
        ProviderView(
            id=each.id,
            name=each.name,
            spec=each.spec_shape,
            example=each.example,
            has_ref=each.has_ref,
            default_ref=each.default_ref if each.has_ref else "",
            is_url_encoded=each.is_url_encoded,
        )
        for each in types
    ]


@router.post("/resolve")
async def resolve(question: ResolveRequest, request: Request, context: Context, types: RepositoryTypes) -> ResolvedLink:
    """Return what a link means now, and launch nothing: no image is looked for, and none is built."""
    repository_type(types, question.provider).check(question.spec)
    spec = Spec(provider=question.provider, spec=question.spec)
    repo = await context.backends.resolve(spec, question.credential)
    exact = Link(Spec(provider=repo.provider, spec=repo.resolved_spec))
    return ResolvedLink(
        provider=repo.provider,
        spec=repo.spec,
        repo_url=repo.repo_url,
        ref=repo.ref,
        ref_url=repo.ref_url,
        resolved_spec=repo.resolved_spec,
        display_name=repo.display_name,
        link=exact.url(base_url(request)),
        visibility=repo.visibility,
        notice=repo.notice,
    )


@router.post("/detect")
async def detect(
    detect_request: DetectRequest, request: Request, context: Context, types: RepositoryTypes
) -> DetectedLink:
    """Return the link that an address means, and launch nothing.

    Where the address of a page does not say which part is the branch, the forge is asked once: the longest ref that
    exists counts. 400 for an address of no repository, and for a page of one that shows no ref of it.
    """
    detected = await context.detected(read_address(detect_request.address, types, detect_request.provider))
    link = detected.link
    return DetectedLink(
        provider=link.spec.provider,
        spec=link.spec.spec,
        path=link.path,
        repository=detected.repository_type.split(link.spec.spec)[0],
        ref=detected.ref,
        link=link.url(base_url(request)),
        notice=detected.notice or None,
        is_guess=detected.is_guess,
    )
