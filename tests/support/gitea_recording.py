"""Records what a real Gitea answers about commits, for `tests/contract/test_resolver_gitea.py`. Run by hand.

Gitea is a Go module, and its releases are not installed by `go install`, as they replace modules. So, in a copy of what
`go mod download code.gitea.io/gitea@VERSION` unpacks:

    go build -tags "sqlite sqlite_unlock_notify" -ldflags "-X main.Version=VERSION" -o gitea .
    python -m tests.support.gitea_recording --gitea ./gitea --source . --folder /tmp/gitea
"""

import argparse
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from tests.support.paths import RECORDED
from tests.support.polling import eventually
from tests.support.ports import free_ports

RECORDING = RECORDED / "gitea.json"
HOST = "https://gitea.test"
"""What stands for the address of the Gitea in the recording."""
START_SECONDS = 60.0
CONFIG = """
RUN_USER = {user}
WORK_PATH = {folder}
[server]
STATIC_ROOT_PATH = {source}
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
[security]
INSTALL_LOCK = true
[actions]
ENABLED = false
"""
QUERY = "?stat=false&verification=false&files=false"
COMMITS = "/repos/ann/notes/git/commits/"
GIT_ENVIRONMENT = {
    "GIT_AUTHOR_DATE": "2026-01-02T03:04:05Z", "GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z",
    "GIT_AUTHOR_NAME": "ann", "GIT_AUTHOR_EMAIL": "ann@gitea.test",
    "GIT_COMMITTER_NAME": "ann", "GIT_COMMITTER_EMAIL": "ann@gitea.test",
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0",
}  # fmt: skip


class Gitea:
    """A Gitea on loopback, of whose user `ann` there is a token."""

    def __init__(self, program: Path, source: Path, folder: Path) -> None:
        self.folder = folder
        (port,) = free_ports(1, set())
        self.url = f"http://127.0.0.1:{port}"
        self.token = ""
        self._program = program.resolve()
        self._environment = {**os.environ, "GITEA_I_AM_BEING_UNSAFE_RUNNING_AS_ROOT": "true"}
        self._config = folder / "app.ini"
        user = os.environ.get("USER", "root")
        self._config.write_text(CONFIG.format(user=user, folder=folder, source=source.resolve(), port=port))

    @contextmanager
    def running(self) -> Iterator["Gitea"]:
        """Start it, and make the user; end it at the end of the block."""
        self._run("migrate")
        process = subprocess.Popen([*self._command, "web"], env=self._environment, stdout=subprocess.DEVNULL)
        try:
            eventually(self._answers, "Gitea answers", START_SECONDS)
            self._run(
                "admin", "user", "create", "--username", "ann", "--password", "of-the-recording-1", "--admin",
                "--email", "ann@gitea.test", "--must-change-password=false",
            )  # fmt: skip
            made = self._run("admin", "user", "generate-access-token", "--username", "ann", "--scopes", "all", "--raw")
            self.token = made.split()[-1]
            yield self
        finally:
            process.terminate()
            process.wait(30)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, *, token: str = "") -> httpx.Response:
        """Send one request to its API."""
        headers = {"Authorization": f"token {token}"} if token else {}
        return httpx.request(method, f"{self.url}/api/v1{path}", json=body, headers=headers, timeout=30)

    @property
    def _command(self) -> list[str]:
        return [str(self._program), "--config", str(self._config)]

    def _run(self, *arguments: str) -> str:
        command = [*self._command, *arguments]
        return subprocess.run(command, env=self._environment, check=True, capture_output=True, text=True).stdout

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/version").is_success
        except httpx.TransportError:
            return False


def make_repositories(gitea: Gitea) -> str:
    """Make what is asked about; return the sha of the one commit of `ann/notes`."""
    for body in ({"name": "notes"}, {"name": "hidden", "private": True}, {"name": "empty"}, {"name": "old"}):
        gitea.ask("POST", "/user/repos", {"default_branch": "main", **body}, token=gitea.token).raise_for_status()
    work = gitea.folder / "work"
    work.mkdir()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(work), *arguments]
        environment = {**os.environ, **GIT_ENVIRONMENT}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q", "-b", "main")
    (work / "requirements.txt").write_text("numpy\n")
    git("add", ".")
    git("commit", "-q", "-m", "Notes")
    git("branch", "wip/of/me")
    git("tag", "-a", "v1", "-m", "The first")
    for name in ("notes", "hidden", "old"):
        git("push", "-q", gitea.url.replace("//", f"//ann:{gitea.token}@") + f"/ann/{name}", "--all")
        git("push", "-q", gitea.url.replace("//", f"//ann:{gitea.token}@") + f"/ann/{name}", "--tags")
    gitea.ask("PATCH", "/repos/ann/old", {"name": "new"}, token=gitea.token).raise_for_status()
    return git("rev-parse", "HEAD")


def requests(sha: str) -> Iterator[tuple[str, str, str]]:
    """Yield the name of each request, its path, and which token is shown: ours, a wrong one, or none."""
    for ref in ("HEAD", "main", "wip/of/me", "v1", "refs/heads/main", sha, sha[:7], "nosuchref", "a..b"):
        yield ref, f"{COMMITS}{quote(ref, safe='')}{QUERY}", ""
    for name in ("hidden", "empty", "old", "new", "nothing"):
        yield name, f"/repos/ann/{name}/git/commits/HEAD{QUERY}", ""
    yield "no user", f"/repos/nobody/notes/git/commits/HEAD{QUERY}", ""
    yield "wrong token", f"{COMMITS}HEAD{QUERY}", "wrong"
    yield "hidden, with a token", f"/repos/ann/hidden/git/commits/HEAD{QUERY}", "ours"
    yield "repository", "/repos/ann/notes", "ours"
    yield "hidden repository", "/repos/ann/hidden", "ours"


def record(gitea: Gitea) -> dict[str, Any]:
    """Return every reply by its name, and the version that gave them."""
    replies = {}
    for name, path, token in requests(make_repositories(gitea)):
        reply = gitea.ask("GET", path, token={"ours": gitea.token}.get(token, token))
        headers = {key: reply.headers[key] for key in ("content-type", "location", "etag") if key in reply.headers}
        text = reply.text.replace(gitea.url, HOST)
        is_json = "json" in reply.headers.get("content-type", "")
        body = {"json": json.loads(text)} if is_json else {"text": text}
        request = {"path": f"/api/v1{path}", "is_authenticated": bool(token)}
        replies[name] = {"request": request, "response": {"status": reply.status_code, "headers": headers} | body}
    return {"version": gitea.ask("GET", "/version").json()["version"], "replies": replies}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gitea", type=Path, required=True, help="the program")
    parser.add_argument("--source", type=Path, required=True, help="its sources, whose templates it reads")
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder for its data")
    chosen = parser.parse_args()
    with Gitea(chosen.gitea, chosen.source, chosen.folder.resolve()).running() as gitea:
        RECORDING.write_text(json.dumps(record(gitea), indent=1, sort_keys=True) + "\n")
    print(f"{RECORDING} is written")


if __name__ == "__main__":
    main()
