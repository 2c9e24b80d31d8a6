"""Single replies of forges' APIs: recorded, or, Bitbucket's and what is so named, after their documentation."""

import json
from typing import Any

from tests.support.forge import Forge, Page
from tests.support.forge_pages import json_page
from tests.support.gitea_recording import HOST, RECORDING
from tests.support.paths import RECORDED

GIST_ID = "8a658f7f63b13768d1e75fa2464f5092"
FOSS = "gitlab-org/gitlab-foss"
FOSS_SHA = "2a9d2b119a87b8411993096a22d41a3eb857e8c1"
_GITLAB = "gitlab.com_api_v4_projects_gitlab_org_2Fgitlab_foss_repository_commits_{}.json"


def recorded_gist(**changes: Any) -> Page:
    """What GitHub answered, with its owner's name, which the recording leaves out, and with changes."""
    reply = json.loads((RECORDED / f"api.github.com_gists_{GIST_ID}.json").read_text())["response"]
    gist = reply["json"] | {"owner": reply["json"]["owner"] | {"login": "mariusvniekerk"}} | changes
    return Page(200, reply["headers"], json.dumps(gist).encode())


def recorded_gitlab(ref: str) -> Page:
    """What gitlab.com answered for `HEAD`, and for `nosuchref`."""
    reply = json.loads((RECORDED / _GITLAB.format(ref)).read_text())["response"]
    return Page(reply["status"], reply["headers"], json.dumps(reply["json"]).encode())


def gitlab_commit(forge: Forge, path: str = "team/unit/notes", sha: str = FOSS_SHA) -> Page:
    """The recorded commit, in another project, and perhaps called by another name."""
    text = recorded_gitlab("HEAD").body.decode()  # type: ignore[union-attr]
    text = text.replace(f"https://gitlab.com/{FOSS}", f"{forge.url}/{path}").replace(FOSS_SHA, sha)
    return Page(200, recorded_gitlab("HEAD").headers, text.encode())


def gitea_replies() -> dict[str, Any]:
    """What a real Gitea answered, by the names that the recording gives its questions."""
    replies: dict[str, Any] = json.loads(RECORDING.read_text())["replies"]
    return replies


def gitea_path(name: str) -> str:
    """Where a recorded question was asked."""
    return str(gitea_replies()[name]["request"]["path"].partition("?")[0])


def recorded_gitea(forge: Forge, name: str) -> Page:
    """What a real Gitea answered, as if the forge were it."""
    reply = gitea_replies()[name]["response"]
    body = json.dumps(reply["json"]) if "json" in reply else reply["text"]
    return Page(reply["status"], reply["headers"], body.replace(HOST, forge.url).encode())


def bitbucket_commit(sha: str, name: str = "team/notes") -> Page:
    repository = {"type": "repository", "full_name": name, "name": name.partition("/")[2]}
    return json_page(200, {"type": "commit", "hash": sha, "repository": repository}, {})


def bitbucket_repository(*, is_private: bool, branch: str = "main") -> Page:
    body = {"full_name": "team/notes", "is_private": is_private, "mainbranch": {"type": "branch", "name": branch}}
    return json_page(200, body, {})


def bitbucket_branch(sha: str) -> Page:
    return json_page(200, {"target": {"type": "commit", "hash": sha}}, {})


def _bitbucket_error(status: int, message: str) -> Page:
    return json_page(status, {"type": "error", "error": {"message": message}}, {})


BITBUCKET_NO_COMMIT = _bitbucket_error(404, "Commit not found")
BITBUCKET_NO_ACCESS = _bitbucket_error(
    404, "You may not have access to this repository or it no longer exists in this workspace."
)
