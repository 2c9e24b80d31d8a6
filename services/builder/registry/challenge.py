"""What a registry wants to be told: the `WWW-Authenticate` header (RFC 9110 section 11)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a grammar's word for a word
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*')
_UNREADABLE = re.compile(rf"\s+|{_TOKEN}|.", re.DOTALL)
_SCHEME = re.compile(rf"\s*({_TOKEN})(?=\s|,|$)")


@dataclass(frozen=True)
class Challenge:
    """One way to authenticate that is offered; names are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """The challenges of all `WWW-Authenticate` headers of an answer, in their order; what can't be read is left out.

    Parameters may stand in any order, quoted or not. Commas separate parameters and challenges alike.
    """
    found: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        at = 0
        parameters: dict[str, str] | None = None
        while at < len(header):
            if parameters is not None and (match := _PARAMETER.match(header, at)):
                name, quoted, plain = match.groups()
                parameters[name.lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            elif match := _SCHEME.match(header, at):
                parameters = {}
                found.append((match[1].lower(), parameters))
            # A word that can't be read is passed whole: from its second letter on it can't be read either.
            passed = match or _UNREADABLE.match(header, at)
            at = passed.end() if passed else len(header)
    return [Challenge(scheme, parameters) for scheme, parameters in found]


def best_challenge(headers: Iterable[str]) -> Challenge | None:
    """The challenge to answer: a bearer token with a realm before a password, None where neither is offered."""
    offered = parse_challenges(headers)
    for challenge in offered:
        if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
            return challenge
    return next((challenge for challenge in offered if challenge.scheme == "basic"), None)
