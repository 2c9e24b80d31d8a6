"""What api.github.com answers, in its recorded shape, for the repositories of a forge of the tests."""

import base64
import hashlib
import json
import time
from pathlib import Path

from tests.support.bare_repos import BareRepos
from tests.support.forge_pages import Fault, Page, json_page
from tests.support.paths import RECORDED

COMMIT_RECORDING = RECORDED / "api.github.com_repos_jupyterhub_zero_to_jupyterhub_k8s_commits_HEAD.json"


class GitHubReplies(BareRepos):
    """Repositories, and GitHub's API for them: see `Forge`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.api_fault: Fault | None = None
        self.private: dict[str, str] = {}
        self.rate_limit = 5000
        self.rate_remaining = 4999
        self.rate_reset = int(time.time()) + 3600
        self._recording = json.loads(COMMIT_RECORDING.read_text())["response"]

    def may_read(self, org: str, name: str, authorization: str) -> bool:
        """Return whether the holder of a header's token may read a repository; any user name goes with it."""
        token = self.private.get(f"{org}/{name}")
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "basic":
            value = base64.b64decode(value).decode().partition(":")[2]
        return token is None or value == token

    def repository_reply(self, org: str, name: str) -> Page:
        """Return what api.github.com answers to a request for a repository that is there."""
        is_private = f"{org}/{name}" in self.private
        visibility = "private" if is_private else "public"
        record = {
            "full_name": f"{org}/{name}",
            "default_branch": "main",
            "private": is_private,
            "visibility": visibility,
        }
        return json_page(200, record, {})

    def comparison_reply(self, org: str, name: str, base: str, head: str) -> Page:
        """Return what api.github.com answers to a comparison, but for the commits."""
        counts = self.git(org, name, "rev-list", "--count", "--left-right", f"{base}...{head}").split()
        behind, ahead = map(int, counts)
        status = "diverged" if behind and ahead else "behind" if behind else "ahead" if ahead else "identical"
        return json_page(200, {"status": status, "ahead_by": ahead, "behind_by": behind}, {})

    def contents_reply(self, org: str, name: str, path: str, ref: str) -> Page:
        """Return what api.github.com answers to a request for a file of a commit."""
        if self.git(org, name, "cat-file", "-t", f"{ref}:{path}", check=False) != "blob":
            return json_page(404, {"message": "Not Found"}, {})
        content = self.git(org, name, "show", f"{ref}:{path}")
        encoded = base64.encodebytes(content.encode()).decode()
        return json_page(200, {"type": "file", "encoding": "base64", "path": path, "content": encoded}, {})

    def branches_reply(self, org: str, name: str, sha: str) -> Page:
        """Return what api.github.com answers to the question which branches end at a commit."""
        names = self.git(org, name, "for-each-ref", f"--points-at={sha}", "--format=%(refname:short)", "refs/heads")
        body = json.dumps([{"name": branch, "commit": {"sha": sha}} for branch in names.split()])
        return Page(200, {"Content-Type": "application/json; charset=utf-8"}, body.encode())

    def commit_reply(self, org: str, name: str, ref: str, if_none_match: str) -> Page:
        """Return what api.github.com answers to a request for a commit."""
        limits = {
            "X-Ratelimit-Limit": str(self.rate_limit),
            "X-Ratelimit-Remaining": str(self.rate_remaining),
            "X-Ratelimit-Reset": str(self.rate_reset),
        }
        if self.api_fault and self.api_fault.rate_limited:
            return json_page(403, {"message": "API rate limit exceeded"}, limits | {"X-Ratelimit-Remaining": "0"})
        self.rate_remaining -= 1
        if not self.folder(org, name).is_dir():
            return json_page(404, {"message": "Not Found"}, limits)
        if (commit := self.find(org, name, ref)) is None:
            if ref == "HEAD":
                return json_page(409, {"message": "Git Repository is empty."}, limits)
            return json_page(422, {"message": f"No commit found for SHA: {ref}"}, limits)
        sha, tree = commit
        etag = f'W/"{hashlib.sha256(f"{org}/{name}/{ref}/{sha}".encode()).hexdigest()}"'
        if if_none_match == etag:
            return Page(304, limits | {"Etag": etag})
        recorded = self._recording["json"]
        text = json.dumps(recorded).replace(recorded["sha"], sha).replace(recorded["commit"]["tree"]["sha"], tree)
        text = text.replace("jupyterhub/zero-to-jupyterhub-k8s", f"{org}/{name}")
        return Page(200, self._recording["headers"] | limits | {"Etag": etag}, text.encode())
