"""The refs of a repository that is cloned: told by its server, and written as `git clone` has them.

They are written to git's file of packed refs at once. `git fetch` makes a file for each, which takes longer than all
else in a repository with thousands of tags.
"""

import os
import re
from collections.abc import Collection, Set
from dataclasses import dataclass
from pathlib import Path

from services.common.git.advertisement import head_advertised, refs_advertised
from services.common.git.config_file import add_section
from services.common.git.process import GitRunner
from services.common.git.remote import refs_listed
from services.common.git.urls import Remote
from services.common.models.errors import BinderyError

BRANCHES = "refs/heads/"
TAGS = "refs/tags/"
ORIGIN = "refs/remotes/origin/"
_PEELED = "^{}"
_HEAD = "HEAD"
_ORIGIN_HEAD = f"{ORIGIN}HEAD"
_SYMREF = b"ref: "
_NO_NAME = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)|[/.]$")


@dataclass(frozen=True)
class RemoteRefs:
    """What a server lists: its refs by name, as `git ls-remote` has them, and the branch that its HEAD names.

    The branch is a full name, or empty. Bytes that are not UTF-8 are surrogates (PEP 383).
    """

    all: dict[str, str]
    head: str = ""

    @property
    def branches(self) -> dict[str, str]:
        """Names of branches, without `refs/heads/`, with their commits; but for one called HEAD, as in git."""
        return {name: sha for name, sha in self._below(BRANCHES).items() if name != _HEAD}

    @property
    def tags(self) -> dict[str, str]:
        """Names of tags, without `refs/tags/`, with what they are: an annotated one is a tag object."""
        return self._below(TAGS)

    @property
    def default_branch(self) -> str:
        """The branch that HEAD names, without `refs/heads/`; empty if there is none of this name."""
        name = self.head.removeprefix(BRANCHES)
        return name if name in self.branches else ""

    @property
    def cloned(self) -> set[str]:
        """What `git clone` asks for: the commits of branches, and tags."""
        return {*self.branches.values(), *self.tags.values()}

    @property
    def named(self) -> set[str]:
        """Whatever has a name of any kind: pull requests too, and what HEAD is."""
        return {sha for name, sha in self.all.items() if not name.endswith(_PEELED)}

    def tags_of(self, sha: str) -> set[str]:
        """Return the tags of a commit, by what they are."""
        return {of for name, of in self.tags.items() if sha in {of, self.all.get(f"{TAGS}{name}{_PEELED}")}}

    def _below(self, start: str) -> dict[str, str]:
        names = {name.removeprefix(start): sha for name, sha in self.all.items() if name.startswith(start)}
        return {name: sha for name, sha in names.items() if is_name(name)}


def is_name(name: str) -> bool:
    """Return whether `name` can follow `refs/heads/` in a ref: what git-check-ref-format(1) says."""
    return bool(name) and name[0] not in "/." and not _NO_NAME.search(name)


async def remote_refs(git: GitRunner, remote: Remote, folder: Path) -> RemoteRefs | None:
    """Return all refs of a server, which is asked unless its first answer told them.

    Return None if it does not say, or says more than can be read.
    """
    if (advertised := refs_advertised(remote.advertisement)) is not None:
        return RemoteRefs(advertised, head_advertised(remote.advertisement))

    command = ("ls-remote", "-q", "--symref", "--", remote.url)
    try:
        listing = await git.unwatched.run(*command, cwd=folder, config=remote.config)
    except BinderyError:
        return None
    if not listing.ok:
        return None

    head = ""
    for line in listing.output.split(b"\n"):
        if line.startswith(_SYMREF) and line.endswith(b"\tHEAD"):
            head = os.fsdecode(line.removeprefix(_SYMREF).removesuffix(b"\tHEAD"))
    return RemoteRefs(refs_listed(listing.output), head)


async def write_refs(git: GitRunner, refs: RemoteRefs, folder: Path, *, known: Set[str] = frozenset()) -> None:
    """Write the branches and tags whose objects are there into the repository at `folder`, instead of those it has.

    Objects in `known` are there; git is asked for the others.
    """
    cloned = {f"{ORIGIN}{name}": sha for name, sha in refs.branches.items()}
    cloned |= {f"{TAGS}{name}": sha for name, sha in refs.tags.items()}
    there = known | await objects_there(git, set(cloned.values()) - known, folder)

    rows = sorted(os.fsencode(f"{name}\0{sha}").partition(b"\0") for name, sha in cloned.items() if sha in there)
    lines = [b"# pack-refs with: sorted ", *(sha + b" " + name for name, _, sha in rows)]
    (folder / ".git" / "packed-refs").write_bytes(b"\n".join(lines) + b"\n")

    if refs.branches.get(refs.default_branch) in there:
        await git.unwatched.run("symbolic-ref", _ORIGIN_HEAD, f"{ORIGIN}{refs.default_branch}", cwd=folder)


async def attach_head(git: GitRunner, sha: str, folder: Path) -> None:
    """Let HEAD name the default branch of the origin, if commit `sha`, which HEAD is, belongs to it.

    The branch follows its origin, as after `git clone`.
    """
    command = ("for-each-ref", f"--contains={sha}", "--format=%(symref)", _ORIGIN_HEAD)
    upstream = os.fsdecode((await git.unwatched.run(*command, cwd=folder)).output).strip("\n")
    if not upstream:
        return

    name = upstream.removeprefix(ORIGIN)
    await git.unwatched.run("update-ref", f"{BRANCHES}{name}", sha, cwd=folder)
    await git.unwatched.run("symbolic-ref", _HEAD, f"{BRANCHES}{name}", cwd=folder)
    add_section(folder, "branch", name, remote="origin", merge=f"{BRANCHES}{name}")


async def objects_there(git: GitRunner, shas: Collection[str], folder: Path) -> set[str]:
    """Return those of the objects that the repository at `folder` has."""
    if not shas:
        return set()
    asked = "".join(f"{sha}\n" for sha in shas).encode()
    answer = await git.unwatched.run("cat-file", "--batch-check", cwd=folder, data=asked)
    rows = (line.split(" ") for line in answer.output.decode("ascii", "replace").splitlines())
    return {row[0] for row in rows if row[-1] != "missing"}
