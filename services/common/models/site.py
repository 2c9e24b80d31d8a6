"""`Site`: how the addresses of a site's pages are read: a row of the table that providers add to.

Providers have the rows (`services.resolver.providers`), and the gateway reads by them what people paste.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from services.common.models.base import Contract

Opens = Literal["nothing", "file", "folder", "either"]
"""What the page of a path shows; `either` if the address does not say, so that the path's last part decides."""

MAX_CANDIDATE_REFS = 32
"""Number of refs that one question may be about."""


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]


class Page(Contract):
    """One kind of page of a repository: the form of its address, and what it is about.

    `path` is a regular expression for what stands behind the repository and a slash, as it is encoded in the address.
    Its groups: `ref`; `path`, a file or folder; `undivided`, a ref and perhaps a path behind it, of which only the
    site knows where the one ends. `query` may find more of them behind the question mark; if it finds nothing, this is
    another kind of page. `ref` is the page's ref if the address has only a part of it, with that part's group in
    braces: `refs/pull/{number}/head`.
    """

    path: Pattern
    query: Pattern = ""
    ref: str = ""
    opens: Opens = "nothing"


class Site(Contract):
    """A site that has repositories, and the forms of the addresses of their pages.

    - `url` is where its pages are, without a final slash; empty for any host: such a row counts only for an address
      that is one of its `pages`. `also_at` are more such places, each for the same repositories.
    - `provider` is the repository type whose links name its repositories. Where that does not exist, `git` does by
      `clone_url`, with the repository's path in the place of `{repository}`; if that is empty, too, nothing can.
    - `link` is the repository's part of the provider's links, if that is not its path alone: with `{repository}` in it.
    - `repository` is a regular expression for a repository's path; the first match that leaves nothing over, or a page
      that begins with `page_mark`, counts.
    - `not_owners` are the first parts of addresses that have no repository behind them, though they look like it.
    - `archives` is a regular expression for the DOIs whose archives the provider launches; empty if it launches none.
      `doi` is that of an archive whose address does not have it, with groups of `repository` in braces.
    """

    name: str
    provider: str
    url: str = ""
    also_at: tuple[str, ...] = ()
    clone_url: str = ""
    link: str = "{repository}"
    repository: Pattern = "[^/]+/[^/]+"
    page_mark: Pattern = ""
    pages: tuple[Page, ...] = ()
    not_owners: tuple[str, ...] = ()
    archives: Pattern = ""
    doi: str = ""

    @property
    def urls(self) -> tuple[str, ...]:
        """All places where its pages are, the longest first; none for any host."""
        return tuple(sorted((self.url, *self.also_at), key=len, reverse=True)) if self.url else ()


class RefQuestion(Contract):
    """The question which of some refs a repository has; `repository` is its part of a link, encoded as there."""

    provider: str = Field(max_length=64)
    repository: str = Field(max_length=4096)
    refs: tuple[str, ...] = Field(min_length=1, max_length=MAX_CANDIDATE_REFS)


class RefAnswer(Contract):
    """Those of the refs in question that exist as branches or tags, in the question's order."""

    existing: tuple[str, ...]
