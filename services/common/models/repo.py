"""`ResolvedRepo`: the immutable repository and commit that a link means."""

from typing import Any

from pydantic import Field

from services.common.models.base import RECORD_VERSION, Contract, OpenEnum


class Visibility(OpenEnum):
    """Who may read the repository. Only public ones are cached and share their logs."""

    PUBLIC = "public"
    PRIVATE = "private"
    UNKNOWN = "unknown"


class ResolvedRepo(Contract):
    """A repository at an immutable ref.

    - `slug` names the image (BinderHub's `get_build_slug`).
    - `resolved_spec` is the spec with the ref replaced by the commit.
    - `notice` is a sentence for the user about something that resolving changed.
    - `immutable_spec`: the requested spec names this ref forever, so the result may be cached.
    - `content_provider` is the class of repo2docker that fetches the repository.
    - `ignores_case`: the path of `repo_url` means the same repository in any case.
    - `config` has the keys of its configuration by the policy that are the operator's own.
    - `is_own`: whether the commit is known to be in the history of one of the repository's branches or tags. If it is
      known not to be, it may be anybody's. None: that was not asked.
    - `reached_url` is the URL that `repo_url` redirects to, if that was requested and is another repository.
    """

    v: int = RECORD_VERSION
    provider: str
    spec: str
    repo_url: str
    ref: str
    resolved_spec: str
    ref_url: str
    slug: str
    display_name: str
    notice: str | None = None
    resource_class: str | None = None
    visibility: Visibility = Visibility.PUBLIC
    immutable_spec: bool = False
    quota: int | None = None
    config: dict[str, Any] = Field({})
    content_provider: str = "Git"
    ignores_case: bool = False
    is_own: bool | None = None
    reached_url: str | None = None
