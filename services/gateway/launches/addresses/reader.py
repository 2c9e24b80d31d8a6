"""The reader of addresses: what a pasted text says about repository, ref and file, by the rows of the table of sites.

It asks nobody. Where an address does not say which part of it is the branch, the reading has every candidate
(`services.gateway.launches.addresses.questions` asks).
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import parse_qsl, quote, unquote

from services.common.models import Spec
from services.common.models.errors import BinderyError
from services.common.net.checked_url import NO_USER
from services.common.service.redaction import quotable
from services.gateway.launches.addresses.address import ADDRESS_MAX_LENGTH, Address, place_of
from services.gateway.launches.addresses.launch_links import launch_link, mended_spec
from services.gateway.launches.addresses.pasted import pasted
from services.gateway.launches.addresses.reading import Candidate, Reading, not_a_repository
from services.gateway.launches.addresses.sites import Found, Place, find, is_on
from services.gateway.launches.links import Link, without_login
from services.gateway.launches.repository_types import RepositoryType, repository_type, sites_of

_SAFE = "/!$&'()*+,;=:@-._~"
_WITH_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DOI = re.compile(r"(?i)(?:https?://(?:dx\.|www\.)?doi\.org/|doi:\s*)?(10\.[0-9]{4,9}(?:\.[0-9]+)*/[^\s?#]+)")
_DOI_INSIDE = re.compile(r"(?:\A|[/:=])(10\.[0-9]{4,9}/[^\s?#&]+?)(?:\.svg)?(?:[?#&]|\Z)")
_WEB_ADDRESS_INSIDE = re.compile(r"(?i)https?:/+[^/].*")
_LINK_WITHOUT_HOST = re.compile(r"/?(?:v2|build)/[a-z].*")
_RUNNING_SERVER = re.compile(
    r"(?:.*/)?user/[^/]+/(?:.*/)?(?:lab|tree|notebooks|doc|edit|retro|files|rstudio|voila|vscode|proxy)(?:/.*)?"
    r"|(?:.*/)?(?:user-redirect|hub/spawn)(?:/.*)?"
)
_FILE = re.compile(r"(?i).+\.(?:svg|png|gif|jpe?g|webp|ico|pdf|x?html?|ipynb|csv|zip|tgz|tar\.(?:gz|bz2|xz))")


def read_address(text: str, types: Sequence[RepositoryType], provider: str = "") -> Reading:
    """Return what `text` says, by the rows of `types`: an address, a launch link, a badge, a DOI or `owner/name`.

    `provider` is the repository type that was chosen for it. It decides about texts that may be of several types, and
    about whether a repository of a forge is launched by `git`.

    Raise `BinderyError`: `bad_spec` for a text that names no repository, `unknown_provider` for one of a type that does
    not exist here.
    """
    chosen = repository_type(types, provider) if provider else None
    if len(text) > ADDRESS_MAX_LENGTH or any("\ud800" <= char <= "\udfff" for char in text):
        raise BinderyError("bad_spec", f"{quotable(ascii(text[:300]))} is not an address.")

    found = pasted(text)
    if not found.address:
        label = chosen.label if chosen else "an address of a repository"
        raise BinderyError("bad_spec", f"Which repository? Fill in: {label}.")
    return _Reader(types, chosen).read(found.address).with_ref(found.ref)


class _Reader:
    """Reads one text."""

    def __init__(self, types: Sequence[RepositoryType], chosen: RepositoryType | None) -> None:
        self._types = types
        self._chosen = chosen
        self._by_id = {candidate.id: candidate for candidate in types}
        self._sites = sites_of(types)

    def read(self, text: str) -> Reading:
        """Return what an address or another text says. Raise `BinderyError`, as `read_address` does."""
        if doi := _DOI.fullmatch(text):
            return self._archive(doi[1])

        hosts = frozenset(place_of(url)[0] for site in self._sites for url in site.urls)
        takes_hosts = self._chosen is None or self._chosen.id in {"git", "gh"}
        address = Address.of(text, hosts=hosts, any_host=takes_hosts)
        return self._address(address) if address else self._short_name(text)

    def _address(self, address: Address) -> Reading:
        is_on_forge = any(site.clone_url and is_on(address, site) for site in self._sites)
        if not is_on_forge and (link := launch_link(address, frozenset(self._by_id))):
            return self._launch_link(link)
        if (by_type := self._by_detect_pattern(address)) is not None:
            return by_type

        is_on_site = is_on_forge or any(is_on(address, site) for site in self._sites)
        if not is_on_site and (elsewhere := self._other_page(address)):
            return elsewhere
        if found := find(address, self._sites):
            return self._found(found, address)
        return self._by_git(address)

    def _other_page(self, address: Address) -> Reading | None:
        """Return the reading of an address that holds another one, or a DOI, on a host that no row has.

        Raise `BinderyError("bad_spec")` for that of a running server.
        """
        if (inside := self._address_inside(address)) is not None:
            return inside
        if _RUNNING_SERVER.fullmatch(address.path):
            raise BinderyError(
                "bad_spec",
                f"{quotable(address.url)} is the address of a running server, not of a repository: what is launched is "
                "a repository, or the link that the server was launched by.",
            )
        doi = _doi_inside(address)
        return self._archive(doi) if doi else None

    def _address_inside(self, address: Address) -> Reading | None:
        """Return the reading of a forge's address, or a launch link, that an address of another site leads to."""
        query = dict(parse_qsl(address.query))
        values = [*query.values(), *_WEB_ADDRESS_INSIDE.findall(unquote(address.path))]
        for value in values:
            inner = Address.of(value) if _WEB_ADDRESS_INSIDE.fullmatch(value) else None
            if inner is None or not (
                any(site.clone_url and is_on(inner, site) for site in self._sites)
                or launch_link(inner, frozenset(self._by_id))
            ):
                continue
            reading = self._address(inner).with_ref(query.get("branch", ""))  # nbgitpuller's links have one
            return replace(reading, notice=f"It is read as {quotable(inner.url)}, which that address leads to.")
        return None

    def _launch_link(self, link: Link) -> Reading:
        if without_login(link.spec) != link.spec:
            raise BinderyError("bad_spec", NO_USER)
        if link.spec.provider not in self._by_id and (by_git := self._link_by_git(link)):
            return by_git

        linked_type = repository_type(self._types, link.spec.provider)
        spec = link.spec.spec
        spec = mended_spec(linked_type, spec, self._sites) or spec
        linked_type.check(spec)
        repository = linked_type.repository_part(spec)
        candidate = Candidate(Link(Spec(provider=linked_type.id, spec=spec), link.path), linked_type.split(spec)[1])
        return Reading(repository_type=linked_type, repository=repository, candidates=(candidate,))

    def _link_by_git(self, link: Link) -> Reading | None:
        """Return the reading by `git` of a link whose provider is not here, if a row says where it clones from."""
        by_git = self._by_id.get("git")
        parts = link.spec.spec.split("/")
        count = 1 if "/" in unquote(parts[0]) else 2
        repository = unquote("/".join(parts[:count]))
        for site in self._sites:
            is_its = site.provider == link.spec.provider and re.fullmatch(site.repository, repository)
            if by_git and is_its and site.clone_url:
                url = site.clone_url.replace("{repository}", repository)
                place = Place(unquote("/".join(parts[count:])))
                return Reading.of_places(by_git, quote(url, safe=""), [place]).with_path(link.path)
        return None

    def _archive(self, doi: str) -> Reading:
        """Return the reading of a DOI: by the row whose archives it is one of, else by the type that accepts it."""
        doi = unquote(doi).strip().rstrip("/.:")
        chosen = [self._chosen] if self._chosen and not self._chosen.has_ref else []
        by_row = [self._by_id.get(site.provider) for site in self._sites if _is_of(doi, site.archives)]
        others = [candidate for candidate in self._types if not candidate.has_ref and candidate.accepts(doi)]
        named = [candidate for candidate in (*chosen, *by_row) if candidate] or (others if len(others) == 1 else [])
        for candidate in named:
            spec = quote(doi, safe="" if candidate.is_url_encoded else "/:")
            if candidate.accepts(spec):
                return Reading.of_places(candidate, spec, [Place()])
        raise BinderyError(
            "unknown_provider",
            f"{quotable(doi)} is a DOI, whose archive can't be launched here. {self._what_there_is()}",
        )

    def _short_name(self, text: str) -> Reading:
        """Return the reading of a text without a host: `owner/name`, perhaps with a page, or what a provider takes."""
        if _LINK_WITHOUT_HOST.fullmatch(text) and (address := Address.of(f"https://bindery.invalid/{text}")):
            link = launch_link(address, frozenset(self._by_id))
            if link is not None:
                return self._launch_link(link)

        chosen = self._chosen or self._by_id.get("gh") or next(iter(self._types), None)
        if chosen is None:
            raise BinderyError("unknown_provider", "There is no repository type here.")
        own_site = next((site for site in chosen.sites if site.url and site.provider == chosen.id), None)
        if own_site is None or chosen.id == "git":
            return self._as_typed(text, chosen)

        if text.startswith("/") or _WITH_PROTOCOL.match(text):
            raise not_a_repository(text, chosen)
        address = Address.of(f"{own_site.url}/{text}")
        try:
            found = find(address, [own_site]) if address else None
        except BinderyError:
            if re.match(rf"(?:{own_site.repository})/", text):
                raise
            found = None
        if found is None:
            raise not_a_repository(text, chosen)
        return self._of_type(chosen, found)

    def _as_typed(self, text: str, chosen: RepositoryType) -> Reading:
        if chosen.id == "git" and not _WITH_PROTOCOL.match(text):
            raise BinderyError("bad_spec", f"{quotable(text)!r} is not the URL of a git repository.")
        match = re.fullmatch(chosen.detect_pattern, text) if chosen.detect_pattern else None
        name = (match["repo"] if match else text).rstrip("/")
        return Reading.of_places(chosen, quote(name, safe="" if chosen.is_url_encoded else _SAFE + "%"), [Place()])

    def _by_detect_pattern(self, address: Address) -> Reading | None:
        """Return the reading by a type without rows: by the pattern of the first that knows the address' host.

        A chosen type whose repositories are URLs, as those of `git` are, takes any address.
        """
        for candidate in [*([self._chosen] if self._chosen else []), *self._types]:
            if candidate.sites or candidate.id == "git":
                continue
            match = re.fullmatch(candidate.detect_pattern, address.url) if candidate.detect_pattern else None
            if match and "://" not in match["repo"]:
                return self._as_typed(match["repo"], candidate)
            if candidate is self._chosen and candidate.is_url_encoded and not candidate.detect_pattern:
                query = f"?{address.query}" if address.query else ""
                return self._as_typed(f"{address.url}{query}", candidate)
        return None

    def _found(self, found: Found, address: Address) -> Reading:
        own_type = self._by_id.get(found.site.provider)
        doi = "" if found.clone_url else found.doi or _doi_inside(address)
        if doi:
            return self._archive(doi)
        by_git = self._by_id.get("git")
        prefers_git = self._chosen is not None and self._chosen.id == "git" and bool(found.clone_url)
        if own_type and own_type.id != "git" and not prefers_git:
            return self._of_type(own_type, found)
        if by_git and found.clone_url:
            return Reading.of_places(by_git, quote(found.clone_url, safe=""), found.places)
        if not found.site.provider:
            raise BinderyError(
                "bad_spec", f"{quotable(address.url)} is on {found.site.name}, and not the address of a repository."
            )
        raise BinderyError(
            "unknown_provider",
            f"{quotable(address.url)} is on {found.site.name}, whose repositories can't be launched here. "
            f"{self._what_there_is()}",
        )

    def _of_type(self, own_type: RepositoryType, found: Found) -> Reading:
        repository = unquote(found.repository).removesuffix(".git")
        name = found.site.link.replace("{repository}", repository)
        return Reading.of_places(own_type, quote(name, safe="" if own_type.is_url_encoded else _SAFE), found.places)

    def _by_git(self, address: Address) -> Reading:
        """Return the reading of an address that no row knows: the URL of a git repository."""
        by_git = self._by_id.get("git")
        names_root = self._chosen is not None and self._chosen is by_git
        if by_git is None or not (address.path or names_root):
            raise BinderyError(
                "bad_spec", f"{quotable(address.url)} is not the address of a repository. {self._what_there_is()}"
            )
        if _FILE.fullmatch(address.path):
            raise BinderyError(
                "bad_spec", f"{quotable(address.url)} is the address of a file, not of a git repository."
            )
        notice = ""
        if address.was_ssh:
            notice = f"It is read as {address.url}: only what can be cloned without a login can be launched."
        return Reading.of_places(by_git, quote(address.url, safe=""), [Place()], notice)

    def _what_there_is(self) -> str:
        return f"There are these repository types: {', '.join(candidate.name for candidate in self._types)}."


def _is_of(doi: str, archives: str) -> bool:
    return bool(archives) and re.fullmatch(archives, doi, re.IGNORECASE) is not None


def _doi_inside(address: Address) -> str:
    """Return the DOI that the path or the query of an archive's page holds; empty if there is none."""
    for text in (unquote(address.path), unquote(address.query)):
        if match := _DOI_INSIDE.search(text):
            return match[1]
    return ""
