"""`ResolvedRepo`: the immutable thing that a link means."""

from services.common.models.base import RECORD_VERSION, Contract, OpenEnum


class Visibility(OpenEnum):
    """Who may read the repository. Facts and shared logs are for public ones only."""

    PUBLIC = "public"
    PRIVATE = "private"
    UNKNOWN = "unknown"


class ResolvedRepo(Contract):
    """A repository at an immutable ref.

    `slug` names the image (BinderHub's `get_build_slug`); `resolved_spec` is the spec with the ref made
    permanent; `notice` is a sentence for the user about what resolving changed; `immutable_spec` says that
    the spec asked for names this ref for ever, so that the answer may be kept as a fact. `content_provider` is
    the class of repo2docker that fetches it. `ignores_case` says that the path of `repo_url` means the same repository
    whatever its case. `reached_url` is where `repo_url` redirects to, if it was asked and that is elsewhere.
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
    content_provider: str = "Git"
    ignores_case: bool = False
    reached_url: str | None = None
