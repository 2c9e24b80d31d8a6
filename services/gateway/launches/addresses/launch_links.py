"""Launch links of any BinderHub, and links whose URL was not percent-encoded as a whole."""

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, unquote

from services.common.models import Site, Spec
from services.gateway.launches.addresses.address import Address, place_of
from services.gateway.launches.landing import path_from_query
from services.gateway.launches.links import Link
from services.gateway.launches.repository_types import RepositoryType

_OF_BINDERHUB = frozenset({"gh", "gist", "git", "gl", "zenodo", "figshare", "hydroshare", "dataverse", "ckan"})
_LINK = re.compile(r"(?:|.*?/)(?:v2|build)/(?P<provider>[a-z][a-z0-9_-]{0,63})/(?P<spec>.+)")
_FIRST_LINK = re.compile(r"repo/(?P<repository>[^/]+/[^/]+)(?:/(?P<path>.+))?")
_PROTOCOL = re.compile(r"(?i)(?P<name>https?|ssh|git)(?::|%3A|%253A)(?:/|%2F|%252F)+")
_WHOLE_URL = re.compile(r"(?i)(?:https?|ssh|git)://[^/]+(?P<path>(?:/.*)?)")
_MERGED = re.compile(r"(?i)(?P<name>https?|ssh|git):/(?P<rest>[^/].*)")
_ENCODED_AGAIN = re.compile(r"(?i)(?:https?|ssh|git)%3A(?:%2F)+.+")
_URL_SAFE = "%/:?#[]@!$&'()*+,;=-._~"


def launch_link(address: Address, providers: frozenset[str]) -> Link | None:
    """Return the link that an address is: to `/v2/<provider>/<spec>` on any host, decoded no more than it is there.

    None for another address. The provider may be one of BinderHub's that does not exist here.
    """
    first = _FIRST_LINK.fullmatch(address.path) if address.place.endswith("mybinder.org") else None
    if first:
        path = f"/{unquote(first['path'])}" if first["path"] else ""
        return Link(Spec(provider="gh", spec=f"{first['repository']}/HEAD"), path)

    match = _LINK.fullmatch(address.path)
    if match is None or match["provider"] not in providers | _OF_BINDERHUB:
        return None
    spec = match["spec"]
    lies_in_folders_of_these_names = ":" not in unquote(spec) and (
        match["provider"] == "git" or (spec.endswith(".git") and spec.count("/") < 2 and not spec.startswith("10."))
    )
    if lies_in_folders_of_these_names:
        return None

    query = dict(parse_qsl(address.query, keep_blank_values=True))
    names_file = "labpath" in query or "filepath" in query
    return Link(
        Spec(provider=match["provider"], spec=spec), path_from_query(query) if names_file else query.get("urlpath", "")
    )


def is_broken(spec: str) -> bool:
    """Return whether a spec begins with a URL that is not percent-encoded as a whole, or was changed on its way."""
    if not _PROTOCOL.match(spec):
        return False
    head, _, tail = spec.partition("/")
    url = _WHOLE_URL.fullmatch(unquote(head))
    if url is None or url["path"].strip("/"):
        return url is None
    return any(part.endswith(".git") for part in unquote(tail).split("/")[:-1])


def mended_spec(repository_type: RepositoryType, spec: str, sites: Iterable[Site] = ()) -> str | None:
    """Return what a spec was before something decoded a part of its URL, or merged its slashes; None if it is whole.

    Where the URL can't be told apart from the ref any more, it ends with the part that ends in `.git`, or where the
    repositories of one of `sites` end; else the last part is the ref.
    """
    protocol = _PROTOCOL.match(spec)
    if protocol is None or not repository_type.is_url_encoded or not is_broken(spec):
        return None

    head, _, tail = spec.partition("/")
    url = unquote(head)
    if _ENCODED_AGAIN.fullmatch(url):
        return _joined(unquote(url), unquote(tail), repository_type)
    if broken := _MERGED.fullmatch(url):
        return _joined(f"{broken['name'].lower()}://{broken['rest']}", unquote(tail), repository_type)

    rest = spec[protocol.end() :]
    is_encoded = not protocol[0].startswith(f"{protocol['name']}:")
    parts = [unquote(part) if is_encoded else part for part in rest.split("/") if part]
    if is_encoded:
        parts = "/".join(parts).split("/")
    if len(parts) < 2:
        return None

    ends = next((at for at, part in enumerate(parts[1:], 2) if part.endswith(".git")), 0)
    ends = ends or _end_by_site(parts, sites) or max(2, len(parts) - 1)
    ref = "/".join(parts[ends:])
    url = f"{protocol['name'].lower()}://{'/'.join(parts[:ends])}"
    return _joined(url, ref if is_encoded else unquote(ref), repository_type)


def _end_by_site(parts: list[str], sites: Iterable[Site]) -> int:
    """Return how many parts of `host/path/ref` the repository has by the row of its site; 0 if no row tells."""
    path = "/".join(parts[1:])
    for site in sites:
        # A row with a mark says where a page begins, and there is no page here.
        if site.url and not site.page_mark and place_of(site.url) == (parts[0].lower().removeprefix("www."), ""):
            match = re.match(rf"(?:{site.repository})(?=/|\Z)", path)
            return 2 + match[0].count("/") if match else 0
    return 0


def _joined(url: str, ref: str, repository_type: RepositoryType) -> str | None:
    """Return the spec of a URL and a decoded ref; None if it would have no form of this type's."""
    url = quote(url.rstrip("/"), safe=_URL_SAFE)
    spec = f"{quote(url, safe='')}/{quote(ref.strip('/') or repository_type.default_ref, safe='/')}"
    return spec if repository_type.accepts(spec) else None
