"""A program for a Python that has repo2docker: one of its content providers, whose archives are elsewhere.

It reads a JSON object: `provider`, `repo_url`, `ref`, `folder`, and `places` (by the beginning of an address where that
is here). It fetches into the folder, and prints what `detect` returned.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch
from urllib.request import urlretrieve

import requests
from repo2docker import contentproviders


class Places:
    """Where the addresses are that repo2docker has in its code."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places
        self._request = requests.Session.request

    def here(self, url: str) -> str:
        for prefix, place in self._places.items():
            if url.startswith(prefix):
                return place + url.removeprefix(prefix)
        return url

    def there(self, url: str) -> str:
        """Return the address that repo2docker knows for one that is here."""
        for prefix, place in self._places.items():
            if prefix.startswith("http") and url.startswith(place):
                return prefix + url.removeprefix(place)
        return url

    def request(self, session: requests.Session, method: str, url: str, **options: Any) -> requests.Response:
        reply = self._request(session, method, self.here(url), **options)
        reply.url = self.there(reply.url)
        return reply


def main() -> None:
    asked = json.loads(sys.stdin.read())
    places = Places(asked["places"])
    provider = getattr(contentproviders, asked["provider"])()
    provider._urlretrieve = lambda url: urlretrieve(places.here(url))  # HydroShare's

    def request(session: requests.Session, method: str, url: str, **options: Any) -> requests.Response:
        return places.request(session, method, url, **options)

    with patch.object(requests.Session, "request", request), patch("time.sleep"):  # it gives archives time
        spec = provider.detect(asked["repo_url"], ref=asked["ref"])
        for _ in provider.fetch(spec, asked["folder"], yield_output=True):
            pass
    print(json.dumps(spec))


if __name__ == "__main__":
    main()
