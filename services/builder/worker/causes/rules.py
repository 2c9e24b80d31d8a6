"""The sentences by which programs say why they failed, as a table: the first rule that applies is quoted.

Each rule has recorded output that it was made after, in tests/unit/builder/worker/causes/recorded. A rule quotes; it
concludes nothing. Where a sentence alone would mislead, as pip's "No matching distribution" without a network, the rule
before it also quotes the line that casts doubt on it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.builder.worker.causes.paragraphs import Paragraph

NEAR_END = 60
"""How many of the last sentences may say that memory or disk ran out: further up it may have been got over."""

_ERRORS = (
    r"(?:^|\s)(?P<quote>(?:[a-zA-Z_]\w*\.)*[A-Z]\w*(?:Error|Exception|NotFound)(?:: .+|$)"
    r"|(?:\S+: )?(?:fatal )?error: (?![a-z]+(?:-[a-z]+)+$|[Cc]ommand .*(?:exit status|exit code) [0-9]+\.?$).+)"
)
"""Last words of what builds a package, but not pip's names of its errors (`error: metadata-generation-failed`), and not
that a compiler has failed, which said why before."""
_SOLVER_LINES = (
    r"does not exist|no viable options|can be installed|cannot be installed|would require|requires|conflicts with"
    r"|no candidates were found|is excluded because|is locked"
)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One way in which a program says why it failed. A pattern's group `quote` is what is quoted, else all of it."""

    name: str
    sentence: re.Pattern[str]
    """The sentence that is quoted; the first one that matches."""
    then: re.Pattern[str] | None = None
    """Sentences behind it that are quoted too, if there are any."""
    then_max: int = 1
    """How many of them: the first ones."""
    takes_last: bool = False
    """Whether the last ones are taken instead."""
    needs_then: bool = False
    """Whether the rule applies only if there is one."""
    before: re.Pattern[str] | None = None
    """A sentence above it, without which the rule does not apply; the last one is quoted behind it."""
    is_of_a_lack: bool = False
    """Whether memory or disk ran out: then only the last `NEAR_END` sentences count.

    These rules alone say why a program was ended by something else.
    """

    def quote(self, paragraphs: Sequence[Paragraph]) -> tuple[Paragraph, list[str]] | None:
        """Return the sentence and all that is quoted; None if the rule does not apply."""
        start = max(0, len(paragraphs) - NEAR_END) if self.is_of_a_lack else 0
        for number, paragraph in enumerate(paragraphs[start:], start):
            if match := self.sentence.search(paragraph.text):
                above = _matches(self.before, paragraphs[:number])
                below = _matches(self.then, paragraphs[number + 1 :])
                if (self.before and not above) or (self.needs_then and not below):
                    return None
                below = below[-self.then_max :] if self.takes_last else below[: self.then_max]
                return paragraph, [_quoted(match), *above[-1:], *below]
        return None


def _matches(pattern: re.Pattern[str] | None, paragraphs: Sequence[Paragraph]) -> list[str]:
    if pattern is None:
        return []
    return [_quoted(match) for paragraph in paragraphs if (match := pattern.search(paragraph.text))]


def _quoted(match: re.Match[str]) -> str:
    return ((match["quote"] if "quote" in match.re.groupindex else None) or match[0]).strip()


def _rule(
    name: str,
    sentence: str,
    *,
    then: str = "",
    then_max: int = 1,
    takes_last: bool = False,
    needs_then: bool = False,
    before: str = "",
    is_of_a_lack: bool = False,
) -> Rule:
    return Rule(
        name=name,
        sentence=re.compile(sentence.replace("{cross}", "\N{MULTIPLICATION SIGN}")),
        then=re.compile(then) if then else None,
        then_max=then_max,
        takes_last=takes_last,
        needs_then=needs_then,
        before=re.compile(before) if before else None,
        is_of_a_lack=is_of_a_lack,
    )


RULES = (
    # Whatever program meets it
    _rule(
        "disk:full",
        r"^.*(?:No space left on device|\[Errno 28\]|\bENOSPC\b|NoSpaceLeftError|Disk quota exceeded|\[Errno 122\]).*",
        is_of_a_lack=True,
    ),
    _rule(
        "memory:out",
        r"^.*(?:MemoryError(?:: .|$)|[Cc]annot allocate memory|\[Errno 12\]|std::bad_alloc"
        r"|JavaScript heap out of memory|cannot allocate vector of size).*",
        is_of_a_lack=True,
    ),
    _rule(
        "program:killed",
        r"^(?:Killed|.*: line [0-9]+: +[0-9]+ Killed(?: .*)?|.*\bKilled signal terminated program .*)$",
        is_of_a_lack=True,
    ),
    # uv
    _rule(
        "uv:not-found",
        r"(?<!\S)(?P<quote>\S+ was not found in (?:the package registry|the provided package locations|the cache))",
        then=r"^hint: .+",
    ),
    _rule("uv:no-solution", r"^(?:╰─▶|cause:) (?P<quote>Because .+)", then=r"^hint: .+"),
    _rule(
        "uv:build",
        r"^(?:{cross} |error: )(?P<quote>(?:Failed to (?:download and )?build|The build backend returned an error).*)",
        then=rf"{_ERRORS}|^hint: This error .+",
        then_max=2,
        takes_last=True,
    ),
    _rule("uv:error", r"^{cross} (?P<quote>.+)", then=r"^╰─▶ (?P<quote>.+)", needs_then=True),
    _rule(
        "uv:error",
        r"^error: (?P<quote>.+)",
        then=r"^(?:Caused by|cause): (?P<quote>.+)",
        takes_last=True,
        needs_then=True,
    ),
    # pip
    _rule(
        "pip:unreachable",
        r"^ERROR: (?P<quote>No matching distribution found for .+)",
        before=r"^WARNING: Retrying .*(?P<quote>connection broken by .+)",
    ),
    _rule(
        "pip:python",
        r"^ERROR: (?P<quote>Ignored the following versions that require a different python version: .+)",
        then=r"^ERROR: (?P<quote>No matching distribution found for .+)",
        needs_then=True,
    ),
    _rule("pip:not-found", r"^ERROR: (?P<quote>No matching distribution found for .+)"),
    _rule(
        "pip:conflict",
        r"^ERROR: (?P<quote>Cannot install .+ because these package versions have conflicting dependencies\.)",
        then=r"^\S.* depends on .+|^The user requested .+",
        then_max=4,
    ),
    _rule("pip:build", r"^{cross} (?P<quote>.+ did not run successfully\.)", then=_ERRORS, takes_last=True),
    _rule("pip:build", r"^ERROR: (?P<quote>Command errored out .+)", then=_ERRORS, takes_last=True),
    # conda, and the solvers that it and repo2docker use
    _rule(
        "mamba:unreachable",
        r"Could not solve for environment specs",
        before=r"(?P<quote>Failed to load subdir: .+|Download error .+)",
    ),
    _rule("mamba:not-found", r"^(?P<quote>\S.* does not exist \(perhaps .+?\))"),
    _rule("mamba:not-found", r"^(?:- )?(?P<quote>nothing provides .+)"),
    _rule(
        "mamba:conflict",
        r"^(?P<quote>The following packages? (?:are incompatible|could not be installed):?)",
        then=_SOLVER_LINES.join((r"^\S.*(?:", r").*")),
        then_max=8,
        needs_then=True,
    ),
    _rule(
        "rattler:unsolvable",
        r"Cannot solve the request because of: (?P<quote>.+)",
        then=_SOLVER_LINES.join((r"^\S.*(?:", r").*")),
        then_max=8,
    ),
    _rule(
        "rattler:fetch",
        r"(?P<quote>failed to fetch \S+\.(?:conda|tar\.bz2)$|could not find subdir '.+|error sending request for url .+"
        r"|HTTP status (?:client|server) error .+)",
        then=r"^Caused by: (?P<quote>.+)",
        takes_last=True,
    ),
    _rule(
        "conda:not-found",
        r"^(?P<quote>(?:PackagesNotFoundError|ResolvePackageNotFound):.*)",
        then=r"^- (?!\w+://)\S.*",
        then_max=4,
    ),
    _rule(
        "conda:error",
        r"^(?!CondaEnvException: Pip failed)(?P<quote>(?:\w{0,40}Conda\w{0,40}(?:Error|Exception)|Environment\w+"
        r"|Invalid\w{0,40}Spec\w{0,40}|\w{0,40}Unsatisfiable\w{0,40}|ChecksumMismatchError"
        r"|UnavailableInvalidChannel|SpecNotFound|ChannelError): ?.*)",
        then=r"^- .+",
        then_max=3,
    ),
    _rule("mamba:error", r"^(?:critical|error)\s+libmamba (?P<quote>.+)"),
    # repo2docker itself, and the operating system's packages
    _rule("repo2docker:error", r"^Error during build: (?!Command |The command )(?P<quote>.+)"),
    _rule("apt:error", r"^E: (?P<quote>.+)"),
    # A program that says so in the usual form
    _rule("error", r"^ERROR: (?!pip's dependency resolver )(?P<quote>.+)"),
    _rule("error", r"^error: (?![a-z]+(?:-[a-z]+)+$)(?P<quote>.+)"),
)
