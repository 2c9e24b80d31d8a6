"""Finding the row of the table of sites that an address belongs to, and what the row says of it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import unquote

from services.common.models import MAX_CANDIDATE_REFS, Page, Site
from services.common.models.errors import BinderyError
from services.common.service.redaction import quotable
from services.gateway.launches.addresses.address import Address, place_of

_FULL_SHA = re.compile(r"[0-9A-Fa-f]{40}")
_FULL_NAME_PARTS = {"heads": 3, "tags": 3, "pull": 4, "merge-requests": 4}
"""How many parts a ref has at least that begins with `refs/` and one of these."""


@dataclass(frozen=True)
class Place:
    """A ref, and a path in the repository that the page shows; each may be empty."""

    ref: str = ""
    path: str = ""
    is_folder: bool = False


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a row says of an address: a repository's path, as it is encoded in the address, and where it is cloned.

    `places` are the possible readings of the rest, the one with the longest ref first; there is one if it is clear.
    `doi` is that of the archive that a row without repositories leads to, or empty.
    """

    site: Site
    repository: str
    clone_url: str
    places: tuple[Place, ...] = (Place(),)
    doi: str = ""


def find(address: Address, sites: Iterable[Site]) -> Found | None:
    """Return what the first row that knows the address says of it; None if there is no such row.

    Raise `BinderyError("bad_spec")` for an address on a row's site that names no repository, and for a page of a
    repository that shows no ref of it.
    """
    refusal = None
    for site in sites:
        below = _below(address, site)
        if below is None:
            continue
        if refusal and not site.url:
            raise refusal
        try:
            if found := _read(site, below, address):
                return found
        except BinderyError as error:  # unless another row of the same site knows the address
            refusal = refusal or error
    if refusal:
        raise refusal
    return None


def is_on(address: Address, site: Site) -> bool:
    """Return whether an address is on one of a row's hosts."""
    return any(place_of(url)[0] == address.place for url in site.urls)


def _below(address: Address, site: Site) -> str | None:
    """Return an address' path without the prefix of its site and without empty parts; None if it is elsewhere."""
    path = "/".join(part for part in address.path.split("/") if part)
    if not site.urls:
        return path
    for place, prefix in map(place_of, site.urls):
        if place == address.place and (not prefix or f"{path}/".startswith(f"{prefix}/")):
            return path.removeprefix(prefix).removeprefix("/")
    return None


def _read(site: Site, path: str, address: Address) -> Found | None:
    match = re.fullmatch(rf"(?P<repository>{site.repository})(?:/(?P<page>(?:{site.page_mark}).*))?", path)
    page = (match["page"] if match else None) or ""
    if not site.url and not page:
        return None

    name = site.name if site.url else address.place
    is_owned = path.partition("/")[0].lower() not in site.not_owners
    if match is None or not is_owned:
        raise BinderyError("bad_spec", f"{quotable(address.url)} is not the address of a repository on {name}.")

    repository = match["repository"]
    template = site.clone_url or ("" if site.url else f"{address.root}/{{repository}}")
    named = repository.removesuffix(".git") if template.endswith(".git") else repository
    clone_url = template.replace("{repository}", named)
    groups = match.groupdict(default="")
    doi = site.doi.format_map(groups) if groups.get("record") else ""
    found = Found(site=site, repository=repository, clone_url=clone_url, doi=doi)

    for form in site.pages:
        about = re.fullmatch(form.path, page) if page or form.query else None
        behind = re.search(form.query, address.query)
        if about and behind:
            groups = about.groupdict(default="") | behind.groupdict(default="")
            return replace(found, places=tuple(_places(form, groups)))
    if not page:
        return found
    raise BinderyError(
        "bad_spec",
        f"{quotable(address.url)} is a page of {quotable(unquote(repository))} on {name} that shows none of its "
        f"branches, tags, commits or files. The address of the repository itself is enough.",
    )


def _places(form: Page, about: dict[str, str]) -> list[Place]:
    if undivided := about.get("undivided"):
        return _divisions(undivided, form)

    ref = form.ref.format_map(about) if form.ref else about.get("ref", "")
    return [_place(form, _decoded(ref), _decoded(about.get("path", "")))]


def _divisions(undivided: str, form: Page) -> list[Place]:
    """Return every way to divide a text into a ref and a path, the longest ref first."""
    parts = [part for part in (_decoded(part) for part in undivided.split("/")) if part] or [""]
    shortest = _FULL_NAME_PARTS.get(parts[1], 1) if parts[0] == "refs" and len(parts) > 1 else 1
    shortest = min(shortest, len(parts))
    longest = len(parts) - 1 if form.opens == "file" and len(parts) > shortest else len(parts)
    if parts[0] == "HEAD" or _FULL_SHA.fullmatch(parts[0]):
        longest = shortest

    longest = min(longest, shortest + MAX_CANDIDATE_REFS - 1)
    return [
        _place(form, _short("/".join(parts[:count])), "/".join(parts[count:]))
        for count in range(longest, shortest - 1, -1)
    ]


def _short(ref: str) -> str:
    """Return a branch's full name, which GitHub's pages have if a tag is called the same, as its short one."""
    name = ref.removeprefix("refs/heads/")
    is_other = name.startswith(("refs/", "-")) or name == "HEAD" or _FULL_SHA.fullmatch(name)
    return ref if is_other else name


def _decoded(part: str) -> str:
    """Return a ref, a path or a part of one, decoded; neither begins or ends with a slash, not with an encoded one."""
    return unquote(part).strip("/")


def _place(form: Page, ref: str, path: str) -> Place:
    if form.opens == "nothing":
        return Place(ref)
    last = path.rpartition("/")[2]
    is_folder = form.opens == "folder" or (form.opens == "either" and "." not in last[1:])
    return Place(ref, path, is_folder)
