"""Archives on a forge of the tests: doi.org and the APIs, each below a folder of its own, answering as recorded."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from tests.support.forge import Forge, Page
from tests.support.in_process_resolver import ResolverClient, running_resolver
from tests.support.paths import RECORDED

DOI_ORG = "/doi/api/handles"


@dataclass
class Recorded:
    """A recorded reply; `body` may be changed before it is answered."""

    status: int
    headers: dict[str, str]
    body: Any = field(repr=False)

    @property
    def page(self) -> Page:
        return Page(self.status, self.headers, json.dumps(self.body).encode())


def recorded(name: str) -> Recorded:
    reply = json.loads((RECORDED / f"{name}.json").read_text())["response"]
    return Recorded(reply["status"], reply["headers"], deepcopy(reply["json"]))


def reply(body: object, status: int = 200) -> Page:
    return Page(status, {"Content-Type": "application/json"}, json.dumps(body).encode())


def lead(forge: Forge, doi: str, url: str) -> None:
    """Have doi.org say that a DOI leads to `url`."""
    handle = recorded("doi.org_api_handles_10.5281_zenodo.3242074")
    handle.body["handle"] = doi
    handle.body["values"][0]["data"]["value"] = url
    forge.pages[f"{DOI_ORG}/{doi}"] = handle.page


def register(forge: Forge, doi: str, url: object, **attributes: object) -> None:
    """Have DataCite know a DOI."""
    answer = recorded("api.datacite.org_dois_10.5281_zenodo.3242074")
    answer.body["data"]["attributes"] |= {"doi": doi, "url": url} | attributes
    forge.pages[f"/datacite/dois/{doi}"] = answer.page


@asynccontextmanager
async def resolver_of_archives(forge: Forge, **settings: Any) -> AsyncIterator[ResolverClient]:
    """Run a resolver whose archives are on `forge`."""
    places = {
        "doi_url": "doi",
        "datacite_api_url": "datacite",
        "zenodo_api_url": "zenodo",
        "figshare_api_url": "figshare",
        "hydroshare_api_url": "hydroshare",
        "software_heritage_api_url": "swh",
    }
    urls = {name: f"{forge.url}/{folder}" for name, folder in places.items()}
    async with running_resolver(forge, **urls | settings) as resolver:
        yield resolver
