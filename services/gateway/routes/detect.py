"""The v1 API: which repository, ref and file an address means."""

from fastapi import APIRouter, Request
from pydantic import Field

from services.common.models import Contract
from services.common.web.problems import RESPONSES
from services.gateway.edge.request_scope import base_url
from services.gateway.launches.addresses.address import ADDRESS_MAX_LENGTH
from services.gateway.launches.addresses.reader import read_address
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
