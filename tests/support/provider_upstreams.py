"""What each provider of the resolver finds on a forge of the tests: links for one of each kind, and what they mean."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.support import deposits
from tests.support.api_launches import git_spec
from tests.support.archives import lead, recorded, register, reply
from tests.support.forge import Forge, Page
from tests.support.forge_pages import json_page
from tests.support.forge_replies import (
    BITBUCKET_NO_ACCESS,
    GIST_ID,
    bitbucket_commit,
    bitbucket_repository,
    gitea_path,
    gitea_replies,
    gitlab_commit,
    recorded_gist,
    recorded_gitea,
    recorded_gitlab,
)

TOKEN = "t0ken-that-reads-what-is-private"
BRANCH, TAG, MISSING = "wip/of/me", "v1", "nosuchref"
_ARCHIVES = ("zenodo", "figshare", "hydroshare")


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """A provider's upstream, of which the forge has the pages.

    `links` are the specs by the column of the table of outcomes; a column without its own has that of `head`, or of
    `private`. `refs` are the commits and versions by the words that the table has for them. `pages` are those that
    are there in one column only, or `private_to` the holder of the token. `operators` are the settings with which the
    operator may read what is private, and `bound` is the one that bounds the requests of `head`.
    """

    links: Mapping[str, str]
    refs: Mapping[str, str]
    settings: Mapping[str, Any]
    pages: Mapping[str, Mapping[str, Page]] = field(default_factory=dict)
    private_to: Mapping[str, Page] = field(default_factory=dict)
    operators: Mapping[str, Any] = field(default_factory=dict)
    bound: str = "forge_timeout_seconds"

    def link(self, column: str) -> str:
        other = "private" if column.startswith("private") else "head"
        return self.links.get(column) or self.links.get(other) or self.links["head"]


def _repositories(forge: Forge, org: str = "org") -> dict[str, str]:
    """Make a public repository, `notes`, and a private one; return the commits of both."""
    first = forge.create_repo(org, "notes", {"a": "1"})
    forge.tag(org, "notes", TAG, first, annotated=True)
    refs = {"first": first, "newest": forge.commit(org, "notes", {"a": "2"})}
    refs["of the branch"] = forge.commit(org, "notes", {"a": "3"}, branch=BRANCH)
    forge.private[f"{org}/hidden"] = TOKEN
    return refs | {"hidden": forge.create_repo(org, "hidden", {"b": "1"})}


def _links(start: str, first: str, private: str) -> dict[str, str]:
    names = {"head": "HEAD", "branch": BRANCH, "tag": TAG, "sha": first, "not_found": MISSING}
    return {column: f"{start}/{name}" for column, name in names.items()} | {"private": private}


def github(forge: Forge) -> Upstream:
    refs = _repositories(forge)
    return Upstream(
        links=_links("org/notes", refs["first"], "org/hidden/HEAD"),
        refs=refs,
        settings={"github_url": forge.url, "github_api_url": forge.api_url},
        operators={"github_access_token": TOKEN},
    )


def gist(forge: Forge) -> Upstream:
    """Put up a gist as it is recorded; its older version and its being secret are as GitHub documents them."""
    link, path = f"mariusvniekerk/{GIST_ID}", f"/api/gists/{GIST_ID}"
    first, newest = "0123456789abcdef0123456789abcdef01234567", "7daa381aae8409bfe28193e2ed8f767c26371237"
    forge.pages[path] = recorded_gist()
    forge.pages[f"{path}/commits"] = reply([{"version": newest}, {"version": first}])
    secret = {path: recorded_gist(public=False)}
    columns = ("private_to_nobody", "private_to_operator", "private_to_user")
    return Upstream(
        links={
            "head": link,
            "branch": f"{link}/main",
            "sha": f"{link}/{first}",
            "not_found": "mariusvniekerk/0123",
            "private": link,
        },
        refs={"newest": newest, "first": first},
        settings={"gist_url": forge.url, "github_api_url": forge.api_url},
        pages=dict.fromkeys(columns, secret),
        operators={"allow_secret_gist": True},
    )


def git(forge: Forge) -> Upstream:
    refs = _repositories(forge)
    url = f"{forge.url}/org/notes"
    host = forge.url.removeprefix("http://")
    return Upstream(
        links=_links(quote(url, safe=""), refs["first"], git_spec(f"{forge.url}/org/hidden")),
        refs=refs,
        settings={},
        operators={"git_credentials": json.dumps({host: f"password={TOKEN}"})},
        bound="git_timeout_seconds",
    )


def gitlab(forge: Forge) -> Upstream:
    """Put up the recorded commit, under several names; the private project is as GitLab documents it."""
    refs = {"first": "1" * 40, "newest": "2" * 40, "of the branch": "3" * 40, "hidden": "4" * 40}
    projects = "/api/v4/projects"
    names = {"HEAD": "newest", BRANCH: "of the branch", TAG: "first", refs["first"]: "first"}
    for name, words in names.items():
        page = gitlab_commit(forge, "team/notes", refs[words])
        forge.pages[f"{projects}/team%2Fnotes/repository/commits/{quote(name, safe='')}"] = page
    forge.pages[f"{projects}/team%2Fnotes/repository/commits/{MISSING}"] = recorded_gitlab(MISSING)
    hidden = f"{projects}/team%2Fhidden"
    missing = json_page(404, {"message": "404 Project Not Found"}, {})
    return Upstream(
        links=_links("team%2Fnotes", refs["first"], "team%2Fhidden/HEAD"),
        refs=refs,
        settings={"gitlabs": {"gl": {"url": forge.url}}},
        pages={"private_to_nobody": {f"{hidden}/repository/commits/HEAD": missing}},
        private_to={
            hidden: json_page(200, {"id": 1, "visibility": "private"}, {}),
            f"{hidden}/repository/commits/HEAD": gitlab_commit(forge, "team/hidden", refs["hidden"]),
        },
        operators={"gitlabs": {"gl": {"url": forge.url, "token": TOKEN}}},
    )


def gitea(forge: Forge) -> Upstream:
    """Put up what a real Gitea answered: all names of its repository are those of one commit."""
    for name in ("HEAD", BRANCH, TAG, MISSING, "hidden"):
        forge.pages[gitea_path(name)] = recorded_gitea(forge, name)
    sha = gitea_replies()["HEAD"]["response"]["json"]["sha"]
    forge.pages[gitea_path(sha)] = recorded_gitea(forge, sha)
    shown = ("hidden, with a token", "hidden repository")
    return Upstream(
        links=_links("gitea.test/ann/notes", sha, "gitea.test/ann/hidden/HEAD"),
        refs={"first": sha},
        settings={"giteas": {"gitea.test": {"url": forge.url}}},
        private_to={gitea_path(name): recorded_gitea(forge, name) for name in shown},
        operators={"giteas": {"gitea.test": {"url": forge.url, "token": TOKEN}}},
    )


def bitbucket(forge: Forge) -> Upstream:
    """Put up real repositories for git, and replies for the API, of commits and of what is private."""
    refs = _repositories(forge, "team")
    first, hidden = refs["first"], refs["hidden"]
    api = "/api/2.0/repositories/team"
    forge.pages[f"{api}/notes/commit/{first}"] = bitbucket_commit(first)
    private = f"{api}/hidden/commit/{hidden}"
    return Upstream(
        links=_links("team/notes", first, f"team/hidden/{hidden}"),
        refs=refs,
        settings={"bitbucket_url": forge.url, "bitbucket_api_url": f"{forge.api_url}/2.0"},
        pages={"private_to_nobody": {private: BITBUCKET_NO_ACCESS}},
        private_to={
            f"{api}/hidden": bitbucket_repository(is_private=True),
            private: bitbucket_commit(hidden, "team/hidden"),
        },
        operators={"bitbucket_token": TOKEN},
        bound="git_timeout_seconds",
    )


def _of_archives(forge: Forge) -> dict[str, str]:
    urls = {f"{name}_api_url": f"{forge.url}/{name}" for name in _ARCHIVES}
    registries = {"doi_url": f"{forge.url}/doi", "datacite_api_url": f"{forge.url}/datacite"}
    return urls | registries | {"software_heritage_api_url": f"{forge.url}/swh"}


def zenodo(forge: Forge) -> Upstream:
    _, version, api = deposits.zenodo(forge)
    for number in (3242073, 9):
        lead(forge, f"10.5281/zenodo.{number}", f"https://zenodo.org/record/{number}")
    forge.pages["/zenodo/records"] = recorded("zenodo.org_api_records_search_3242073").page
    nothing = reply({"hits": {"hits": [], "total": 0}})
    restricted = recorded("zenodo.org_api_records_3242074")
    restricted.body |= {"metadata": {"access_right": "restricted"}}
    return Upstream(
        links={"head": "10.5281/zenodo.3242073", "sha": version, "not_found": "10.5281/zenodo.9", "private": version},
        refs={"newest": "3242074"},
        settings=_of_archives(forge),
        pages={"not_found": {"/zenodo/records": nothing}, "private_to_nobody": {api: restricted.page}},
    )


def figshare(forge: Forge) -> Upstream:
    _, version, api = deposits.figshare(forge)
    doi = version.removesuffix(".v3")
    for each in (doi, f"{doi}.v1", f"{doi}.v9"):
        lead(forge, each, "https://figshare.com/articles/x/9782777")
    article = recorded("api.figshare.com_v2_articles_9782777_versions_3")
    article.body |= {"version": 1}
    versions = api.removesuffix("/3")
    forge.pages[f"{versions}/1"] = article.page
    forge.pages[versions] = recorded("api.figshare.com_v2_articles_9782777_versions").page
    article.body |= {"is_confidential": True}
    return Upstream(
        links={"head": doi, "sha": f"{doi}.v1", "not_found": f"{doi}.v9", "private": f"{doi}.v1"},
        refs={"newest": "9782777.v3", "first": "9782777.v1"},
        settings=_of_archives(forge),
        pages={"private_to_nobody": {f"{versions}/1": article.page}},
    )


def dataverse(forge: Forge) -> Upstream:
    _, doi, api = deposits.dataverse(forge)
    return Upstream(
        links={"head": doi, "private": doi},
        refs={"newest": "3035124.v4.0"},
        settings=_of_archives(forge),
        pages={
            "not_found": {api: reply({"status": "ERROR", "message": "Not found"}, 404)},
            "private_to_nobody": {api: reply({"status": "ERROR", "message": "Not permitted"}, 403)},
        },
    )


def hydroshare(forge: Forge) -> Upstream:
    _, resource, api = deposits.hydroshare(forge)
    return Upstream(
        links={"head": resource, "not_found": resource[::-1], "private": resource},
        refs={"newest": f"{resource}.v1545934606"},
        settings=_of_archives(forge),
        pages={"private_to_nobody": {api: reply({"detail": "Permission denied."}, 403)}},
    )


def ckan(forge: Forge) -> Upstream:
    """Put up a dataset whose activity, with what it was then, is recorded; what it is now has the form of that."""
    _, spec, api = deposits.ckan(forge)
    name = "39799a20-ecca-4f3e-b593-196e72d9a9fd"
    package = recorded("data.depositar.io_api_3_action_activity_data_show")
    forge.pages[f"{api.rpartition('/')[0]}/activity_data_show"] = package.page
    package.body["result"] |= {"metadata_modified": "2024-05-01T00:00:00"}
    forge.pages[api] = package.page
    package.body["result"] |= {"private": True}
    return Upstream(
        links={"head": spec, "sha": quote(f"{forge.url}/dataset/{name}?activity_id={name}", safe=""), "private": spec},
        refs={"newest": f"{name}.v1714521600", "first": f"{name}.v1712023831"},
        settings={},
        pages={"not_found": {api: reply({"success": False}, 404)}, "private_to_nobody": {api: package.page}},
    )


def software_heritage(forge: Forge) -> Upstream:
    """Put up a snapshot whose default branch is a release, that release, and its revision."""
    _, release, _ = deposits.swh(forge)
    revision = "69c0db5050f623e8895b72dfe970392b1f9a0e2e"
    snapshot = recorded("archive.softwareheritage.org_api_1_snapshot")
    snapshot.body["branches"] = {"HEAD": {"target_type": "release", "target": release.rpartition(":")[2]}}
    digest = "cabcc7d7bf639bbe1cc3b41989e1806618dd5764"
    forge.pages[f"/swh/snapshot/{digest}/"] = snapshot.page
    return Upstream(
        links={
            "head": f"swh:1:snp:{digest}",
            "tag": release,
            "sha": f"swh:1:rev:{revision}",
            "not_found": f"swh:1:rev:{revision[::-1]}",
        },
        refs={"first": revision},
        settings=_of_archives(forge),
    )


def doi(forge: Forge) -> Upstream:
    """Put up DOIs that DataCite knows to be of Zenodo."""
    of_zenodo = zenodo(forge)
    for number in (3242073, 3242074):
        register(forge, f"10.5281/zenodo.{number}", f"https://zenodo.org/record/{number}")
    return Upstream(
        links={**of_zenodo.links, "not_found": "10.5281/zenodo.10"},
        refs=of_zenodo.refs,
        settings=of_zenodo.settings,
        pages={"private_to_nobody": of_zenodo.pages["private_to_nobody"]},
    )


UPSTREAMS: Mapping[str, Callable[[Forge], Upstream]] = {
    "gh": github, "gist": gist, "git": git, "gl": gitlab, "gitea": gitea, "bb": bitbucket, "zenodo": zenodo,
    "figshare": figshare, "dataverse": dataverse, "hydroshare": hydroshare, "ckan": ckan, "swh": software_heritage,
    "doi": doi,
}  # fmt: skip
"""By the prefix of the provider."""
