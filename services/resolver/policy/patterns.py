"""Regular expressions of rules, as BinderHub has them: they match from the start, in either case.

Anybody chooses the links that are matched, and the match holds up everything else in this process. So a live rule whose
pattern might try very many ways through a link is refused when it is added.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from services.common.models.errors import BinderyError

PATTERN_MAX_LENGTH = 500
LONGEST_TEXT = 4096
"""Characters of the longest link."""
STEPS_MAX = 4 * LONGEST_TEXT**2
"""Steps that a match of the longest link may take: they last no longer than a second."""
_TOO_MANY = STEPS_MAX + 1

_REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)
_ONE_CHARACTER = (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN)

Token = tuple[Any, Any]
"""An operation of the parsed expression, and its argument."""


def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern. Raise `re.error`."""
    return re.compile(pattern, re.IGNORECASE)


def check_pattern(pattern: str) -> None:
    """Raise `BinderyError("bad_request")`, with a sentence, for a pattern that a live rule can't have."""
    if not pattern:
        raise BinderyError("bad_request", "The pattern is empty: it would match every link. For all links, write .*")
    if len(pattern) > PATTERN_MAX_LENGTH:
        raise BinderyError("bad_request", f"The pattern is longer than {PATTERN_MAX_LENGTH} characters.")

    try:
        compiled(pattern)
        effort = _effort(parser.parse(pattern).data, is_end=True)
    except (re.error, OverflowError, RecursionError) as error:
        raise BinderyError("bad_request", f"{pattern!r} is not a regular expression: {error}.") from None
    if effort.steps > STEPS_MAX:
        raise BinderyError(
            "bad_request",
            f"{pattern!r} can match a long link in too many ways, and trying them would take too long. Use fewer of "
            "* and +, none within another; before a slash, write [^/]+ in place of .*",
        )


@dataclass(frozen=True)
class _Effort:
    """Bounds for a part of an expression: in how many ways it matches, and how many steps it takes to try them all."""

    ways: int = 1
    steps: int = 1

    def then(self, other: "_Effort") -> "_Effort":
        """Return the effort of another part behind this one: it is tried anew for each way."""
        ways = min(self.ways * other.ways, _TOO_MANY)
        return _Effort(ways, min(self.steps + self.ways * other.steps, _TOO_MANY))


def _effort(tokens: Sequence[Token], *, is_end: bool = False) -> _Effort:
    """Return the effort of matching an expression at the beginnings of the longest link.

    `is_end`: whether it is the end of the pattern, where the first way counts and no other is tried.
    """
    effort = _Effort()
    for number, (code, argument) in enumerate(tokens):
        rest = tokens[number + 1 :]
        effort = effort.then(_effort_of_one(code, argument, rest, is_end=is_end))
    return effort


def _effort_of_one(code: Any, argument: Any, rest: Sequence[Token], *, is_end: bool) -> _Effort:
    if code in _REPEATS:
        effort = _effort_of_repeat(argument, rest, is_end=is_end)
        return _Effort(1, effort.steps) if code is codes.POSSESSIVE_REPEAT else effort
    if code is codes.BRANCH:
        branches = [_effort(branch.data) for branch in argument[1]]
        return _Effort(sum(each.ways for each in branches), sum(each.steps for each in branches))
    if code is codes.SUBPATTERN:
        return _effort(argument[-1].data, is_end=is_end and not rest)
    if code in (codes.ASSERT, codes.ASSERT_NOT):
        return _Effort(1, _effort(argument[1].data).steps)
    if code is codes.ATOMIC_GROUP:
        return _Effort(1, _effort(argument.data).steps)
    if code in (codes.GROUPREF, codes.GROUPREF_EXISTS):
        return _Effort(2, LONGEST_TEXT)
    return _Effort()


def _effort_of_repeat(argument: tuple[int, int, Any], rest: Sequence[Token], *, is_end: bool) -> _Effort:
    fewest, most, body = argument
    times = min(int(most), LONGEST_TEXT)
    once = _effort(body.data)
    if once.ways > 1 and times > 1:
        all_times = _Effort()
        for _ in range(times):
            all_times = all_times.then(once)
        return all_times

    steps = min(once.steps * times, _TOO_MANY)
    if (is_end and not rest) or _ends_where_the_next_begins(body.data, rest):
        return _Effort(once.ways, steps)
    return _Effort(once.ways * (times - min(int(fewest), times) + 1), steps)


def _ends_where_the_next_begins(body: Sequence[Token], rest: Sequence[Token]) -> bool:
    """Return whether a repeated character can't be the literal behind it: there is one way then, as in `[^/]+/`."""
    if len(body) != 1 or body[0][0] not in _ONE_CHARACTER or not rest or rest[0][0] is not codes.LITERAL:
        return False
    character = chr(rest[0][1])
    repeated = _compiled_tokens(body)
    return not any(repeated.match(each) for each in {character, character.lower(), character.upper()})


def _compiled_tokens(tokens: Sequence[Token]) -> re.Pattern[str]:
    """Compile a part of a parsed expression."""
    state = parser.State()
    state.str = ""
    part = parser.SubPattern(state, list(tokens))
    return re._compiler.compile(part, re.IGNORECASE)  # type: ignore[attr-defined, no-any-return]
