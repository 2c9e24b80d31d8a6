"""The second line of defence for the secrets that builds are given: should one be said in a log, it is blanked."""

import json
from collections.abc import Iterable
from urllib.parse import quote

BLANK = "[secret]"
SECRET_MIN_CHARS = 8
"""A shorter one is left alone: it may be a word of every log, and blanking that would tell it."""
SECRETS_KEPT = 32
"""How many secrets are looked for, the ones learnt last: tokens that are renewed would be ever more."""


class Redaction:
    """Blanks what it has learnt, in whatever is said afterwards. The first defence is to hand no secret to who prints.

    The work is linear: one search for each of at most `SECRETS_KEPT` secrets and spellings.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: dict[str, tuple[str, ...]] = {}
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Look for these from now on, as they are, as in a URL, and as in JSON."""
        for secret in secrets:
            if len(secret) >= SECRET_MIN_CHARS:
                self._known.pop(secret, None)
                self._known[secret] = tuple({secret, quote(secret, safe=""), json.dumps(secret)[1:-1]})
        while len(self._known) > SECRETS_KEPT:
            del self._known[next(iter(self._known))]

    def __call__(self, text: str) -> str:
        for spellings in self._known.values():
            for spelling in spellings:
                text = text.replace(spelling, BLANK)
        return text
