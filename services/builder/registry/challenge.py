"""The `WWW-Authenticate` header (RFC 9110 section 11): the ways to authenticate that a registry offers."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's word for a word, not a secret
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*')
_UNREADABLE = re.compile(rf"\s+|{_TOKEN}|.", re.DOTALL)
_SCHEME = re.compile(rf"\s*({_TOKEN})(?=\s|,|$)")


@dataclass(frozen=True)
class Challenge:
    """One offered way to authenticate; scheme and parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Return the challenges of all `WWW-Authenticate` headers of a reply, in order. Unreadable parts are left out.

    Parameters may come in any order, quoted or not. Commas separate parameters as well as challenges.
    """
    offers: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        at = 0
        parameters: dict[str, str] | None = None
        while at < len(header):
            if parameters is not None and (match := _PARAMETER.match(header, at)):
                name, quoted, plain = match.groups()
                parameters[name.lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            elif match := _SCHEME.match(header, at):
                parameters = {}
                offers.append((match[1].lower(), parameters))

            # A word that can't be read is skipped whole: from its second letter on it can't be read either.
            skipped = match or _UNREADABLE.match(header, at)
            at = skipped.end() if skipped else len(header)
    return [Challenge(scheme, parameters) for scheme, parameters in offers]


def best_challenge(headers: Iterable[str]) -> Challenge | None:
    """Return the challenge to answer: a bearer token with a realm, else a password, else None."""
    offers = parse_challenges(headers)
    for challenge in offers:
        if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
            return challenge
    return next((challenge for challenge in offers if challenge.scheme == "basic"), None)
