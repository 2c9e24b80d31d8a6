"""The second line of defence for the secrets that builds are given: one that is printed in a log is blanked."""

import json
from collections.abc import Iterable
from urllib.parse import quote

BLANK = "[secret]"
SECRET_MIN_CHARS = 8
"""A shorter secret is not blanked: it may be a word of any log, and blanking that would reveal it."""
MAX_SECRETS = 32
"""How many secrets are searched for, the most recent ones: renewed tokens would grow in number without end."""


class Redaction:
    """A function that blanks secrets in texts. The first defence is to give no secret to a program that prints.

    The work is linear: one search for each of at most `MAX_SECRETS` secrets and spellings.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._spellings: dict[str, tuple[str, ...]] = {}
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Blank these from now on: as they are, as in a URL, and as in JSON."""
        for secret in secrets:
            if len(secret) >= SECRET_MIN_CHARS:
                self._spellings.pop(secret, None)
                self._spellings[secret] = tuple({secret, quote(secret, safe=""), json.dumps(secret)[1:-1]})
        while len(self._spellings) > MAX_SECRETS:
            del self._spellings[next(iter(self._spellings))]

    def __call__(self, text: str) -> str:
        """Return the text with the secrets blanked."""
        for spellings in self._spellings.values():
            for spelling in spellings:
                text = text.replace(spelling, BLANK)
        return text
