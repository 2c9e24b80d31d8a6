"""A stack's builder, called directly: builds of repositories that a forge serves, without servers."""

import json
from typing import Any

from services.common.models import ResolvedRepo
from tests.support.compose_stack import ComposeStack
from tests.support.polling import eventually
from tests.support.stack import Stack

ENDS = {"built", "failed", "cancelled"}
ASKER = "whoever-asks-in-this-test"
"""Who wants the builds for themselves: they alone may cancel them."""


class StackBuilder:
    """The builder of a running stack, by its own API."""

    def __init__(self, stack: Stack | ComposeStack) -> None:
        self._client = stack.part_client("builder")

    def request_build(self, repo_url: str, ref: str, *, replaces: str | None = None) -> dict[str, Any]:
        """Ask for the image of a repository: `POST /builds`."""
        slug = repo_url.rpartition("//")[2]
        repo = ResolvedRepo(
            provider="git", spec=f"{repo_url}/{ref}", repo_url=repo_url, ref=ref, resolved_spec=f"{repo_url}/{ref}",
            ref_url=repo_url, slug=slug, display_name=slug,
        )  # fmt: skip
        body = {"repo": repo.model_dump(mode="json"), "replaces": replaces, "asker": ASKER}
        reply = self._client.post("/builds", json=body)
        assert reply.status_code in {200, 202}, reply.text
        build: dict[str, Any] = reply.json()
        return build

    def read(self, build_id: str) -> dict[str, Any]:
        build: dict[str, Any] = self._client.get(f"/builds/{build_id}").json()
        return build

    def cancel(self, build_id: str) -> int:
        return self._client.delete(f"/builds/{build_id}", params={"asker": ASKER}).status_code

    def lines(self, build_id: str) -> list[dict[str, Any]]:
        """Return the log so far: `phase` and `message` of each line."""
        reply = self._client.get(f"/builds/{build_id}/log", params={"format": "jsonl"})
        assert reply.status_code == 200, reply.text
        return [json.loads(line) for line in reply.text.splitlines()]

    def text(self, build_id: str) -> str:
        return "".join(line["message"] for line in self.lines(build_id))

    def until(self, build_id: str, text: str, seconds: float = 60) -> None:
        """Wait until the log has `text`."""
        eventually(
            lambda: text in self.text(build_id) or self.read(build_id)["state"] in ENDS,
            f"{text!r} in the log, which is {self.text(build_id)[-1000:]}", seconds,
        )  # fmt: skip
        assert text in self.text(build_id), f"{self.read(build_id)}: {self.text(build_id)[-2000:]}"

    def until_state(self, build_id: str, state: str, seconds: float = 60) -> None:
        eventually(lambda: self.read(build_id)["state"] in {state, *ENDS}, f"the build is {state}", seconds)
        assert self.read(build_id)["state"] == state, self.read(build_id)

    def outcome(self, build_id: str, seconds: float = 120) -> dict[str, Any]:
        """Wait for the build's end; the build."""
        eventually(lambda: self.read(build_id)["state"] in ENDS, f"{build_id} ends", seconds)
        return self.read(build_id)

    def close(self) -> None:
        self._client.close()
