"""The base class of repository providers, and the check of refs that they share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.common.models import GitCredential, ResolvedRepo, Site, Spec
from services.common.models.errors import BinderyError
from services.resolver.settings import ResolverSettings

MAX_REF_LENGTH = 1024


@dataclass(frozen=True)
class Resolved:
    """What a link means, and a text by which the provider recognises, the next time, that this has not changed.

    `other_links` are links of other providers to the same, known only now: their rules hold for this one, too.
    """

    repo: ResolvedRepo
    validator: str = ""
    other_links: tuple[Spec, ...] = ()


class Provider(ABC):
    """One kind of repository link, such as `gh/<user>/<repo>/<ref>`.

    A subclass sets `prefix` and `name`, or both in `instances` if there may be several of it, and implements
    `display_config` and `resolve`. One that can tell whether an answer has changed is a `RevalidatingProvider`. A
    provider of repositories that have more than one link also overrides `also_known_as` and `repository_of`; one whose
    pages people copy addresses of, `sites` and `existing_refs`; one that has credentials, `credentials_id`; one of
    private repositories, `on_behalf_of`; one of a forge with forks, `has_in_history`; one of a forge whose API has
    files, `read_file`; one that holds connections open, `aclose`. There is one instance for each prefix in each
    resolver process, and its methods run concurrently.

    Every address that a user typed, or that an answer leads to, is reached through `services.common.git.remote` or
    `services.common.net.outbound`, which refuse private networks.
    """

    prefix: str
    """The provider's part of an address: `gh` in `/v2/gh/user/repo/HEAD`. Unique, and stable, as links contain it."""
    name: str
    """BinderHub's label of the provider in metrics and events."""

    def __init__(self, settings: ResolverSettings) -> None:
        self.settings = settings

    @classmethod
    def instances(cls, settings: ResolverSettings) -> Sequence["Provider"]:
        """Return the providers of this class that the settings ask for: one, or one for each of several hosts."""
        return (cls(settings),)

    @property
    def credentials_id(self) -> str:
        """What is found out with some credentials is told to nobody who asks with others: a name for ours."""
        return ""

    @property
    def warnings(self) -> Sequence[str]:
        """Sentences for the operator, on the health page: a forge that does not answer, or soon won't."""
        return ()

    @property
    @abstractmethod
    def display_config(self) -> dict[str, Any]:
        """How pages and BinderHub's clients show the provider: its entry in `/api/repoproviders`."""

    async def ask(self, spec: str, validator: str = "") -> Resolved | None:
        """Return what `spec` means now; None if that is what it was when the answer with `validator` was given.

        Otherwise as `resolve`.
        """
        return Resolved(await self.resolve(spec))

    @abstractmethod
    async def resolve(self, spec: str) -> ResolvedRepo:
        """Return the repository and commit that `spec` means now.

        `spec` is the part of the address after the prefix, percent-encoded as in the URL. The caller sets the deadline,
        merges concurrent calls for the same spec, and checks bans. Set `immutable_spec` only if the spec will name the
        same commit forever: the result is then cached.

        Raise `BinderyError`: `bad_spec`, `address_not_allowed`, `ref_not_found`, `rate_limited`,
        `provider_unavailable`.
        """

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """Return other links to the same repository and ref, so that a ban of one is a ban of all.

        `services.resolver.repository_names.links_to` makes them of a URL. Raise `BinderyError("bad_spec")`.
        """
        return ()

    def repository_of(self, url: str) -> str | None:
        """Return the part of a link that names the repository at `url`; None if it is elsewhere.

        A ban of this provider's link then holds for links that reach the repository by its URL.
        """
        return None

    def allowed_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the links of which one must be allowed, if there are allowances for their providers.

        Raise `BinderyError("bad_spec")`.
        """
        return (Spec(provider=self.prefix, spec=spec),)

    @property
    def sites(self) -> tuple[Site, ...]:
        """How addresses that people paste lead to this provider's repositories: its rows of the table of sites.

        `services.resolver.sites` has the forms of the pages of several kinds of forge.
        """
        return ()

    async def existing_refs(self, repository: str, refs: Sequence[str]) -> tuple[str, ...]:
        """Return those of `refs` that are branches or tags of a repository, asked of its forge with one request.

        `repository` is its part of a link, percent-encoded as there. A provider with a page in `sites` whose address
        does not say where the ref ends overrides this; `services.resolver.git_refs` asks a git server.

        Raise `BinderyError`, as `resolve` does.
        """
        raise BinderyError("bad_spec", f"The branches and tags of a {self.name} repository can't be asked for.")

    async def has_in_history(self, repository: str, sha: str) -> bool | None:
        """Return whether a commit is in the history of a branch or tag of a repository; None if nobody can say.

        `repository` is its part of a link, as `repository_of` returns it. A forge with forks overrides this: by its
        hash, a commit of any of them is found under the repository's name.
        Raise `BinderyError`, as `resolve` does.
        """
        return None

    async def read_file(self, repository: str, sha: str, path: str) -> bytes | None:
        """Return a small file of a commit, read through the API of a forge; None if there is none, or no such API.

        `repository` is its part of a link, as `repository_of` returns it. Raise `BinderyError`, as `resolve` does.
        """
        return None

    def on_behalf_of(self, login: GitCredential) -> "Provider":
        """Return this provider as it is for the holder of a login, who may see more than everybody does.

        It shares the connections of this one, and is not closed. Raise `BinderyError("bad_request")` for a provider
        that has no private repositories.
        """
        raise BinderyError("bad_request", f"{self.name} is read without a credential: launch the link without one.")

    async def aclose(self) -> None:  # noqa: B027 - most providers hold nothing open
        """Close the connections that the provider holds open."""


class RevalidatingProvider(Provider):
    """A provider that can tell that an answer has not changed: a subclass implements `ask` in place of `resolve`."""

    @abstractmethod
    async def ask(self, spec: str, validator: str = "") -> Resolved | None:
        """See `Provider`. Without a validator the answer is not None."""

    async def resolve(self, spec: str) -> ResolvedRepo:
        """See `Provider`."""
        found = await self.ask(spec)
        if found is None:
            raise BinderyError("internal", f"{self.name} says of what was never asked that it has not changed.")
        return found.repo


def checked_ref(ref: str, spec: str, *, is_option_allowed: bool = False) -> str:
    """Return `ref` if it can be the name of a branch, tag or commit. Raise `BinderyError("bad_spec")` otherwise.

    Whatever `git check-ref-format` allows can be one; a dash at the beginning only with `is_option_allowed`, for a
    caller who gives the ref to no program, or after `--`.
    """
    if not ref:
        raise BinderyError("bad_spec", f"The ref is missing. Did you mean {spec.rstrip('/')}/HEAD?")
    if ref.startswith("-") and not is_option_allowed:
        raise BinderyError(
            "bad_spec", f"A ref can't begin with a dash: {ref[:100]!r}. The branch of that name is refs/heads/…"
        )

    has_odd_text = any(letter <= " " or letter in "\\\x7f" for letter in ref) or ".." in ref
    has_odd_part = any(part in {"", "."} for part in ref.split("/"))
    if has_odd_text or has_odd_part or len(ref) > MAX_REF_LENGTH:
        raise BinderyError("bad_spec", f"{ref[:100]!r} can't be the name of a branch, tag or commit.")
    return ref
