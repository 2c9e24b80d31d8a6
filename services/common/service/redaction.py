"""Texts without the secrets in them, for logs, sentences and pages."""

import re

_SECRET_TEXT = re.compile(
    r"""
      (?P<kept>
        (?:token|secret|passw(?:or)?d|api_?key)=            # of a query, a form, a command
      | [?&](?:code|state)=                                 # what an OAuth provider answers with
      | \bauthorization["']?\s*[:=]\s*["']?(?:\w+\s+)?       # a header
      ) [^&\s"']+
    | (?P<scheme>\b(?:bearer|token)\s+) [\w.~+/=-]{8,}
    """,
    re.IGNORECASE | re.VERBOSE,
)
_UP_TO_AT = re.compile(r"://[^@\s]*+@?")
"""From the first `://` of a word to its `@`, or to its end if it has none, so that the scan is linear."""
_USER = re.compile(r"://[^/:@\s]*:(?=[^@])")
_BARE_TOKEN_MIN_LENGTH = 20


def redact(text: str) -> str:
    """Return `text` without the secrets in its URLs, headers and commands, in time linear in its length.

    Cut a text after this, never before: the rest of a cut secret would not be recognised.
    """
    text = without_userinfo(text)
    return _SECRET_TEXT.sub(lambda m: f"{m['kept'] or m['scheme']}[secret]", text)


def without_userinfo(text: str) -> str:
    """Return `text` without the passwords and tokens in its URLs, in time linear in its length."""
    return _UP_TO_AT.sub(_without_secret, text)


def quotable(text: str, max_chars: int = 200) -> str:
    """Return `text` to be quoted in a sentence: without secrets, and then cut to `max_chars`."""
    text = redact(text)
    return text if len(text) <= max_chars else f"{text[:max_chars]}…"


def _without_secret(match: re.Match[str]) -> str:
    """Blank a password in a URL, with or without a user, or a token in place of the user."""
    text = match[0]
    if not text.endswith("@"):
        return text
    if user := _USER.search(text):
        return f"{text[: user.end()]}[secret]@"
    before, mark, name = text[:-1].rpartition("://")
    is_token = len(name) >= _BARE_TOKEN_MIN_LENGTH and "/" not in name and ":" not in name
    return f"{before}{mark}[secret]@" if is_token else text
