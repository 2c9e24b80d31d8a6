"""What repositories ask for themselves in bindery.yaml, and what the policy lets them have."""

import base64
import json
from typing import Any

import pytest

from tests.support.forge import Forge, Page
from tests.support.in_process_resolver import running_resolver

SHA = "cd" * 20


def lets(*classes: str, **config: Any) -> dict[str, Any]:
    rule = {"pattern": "^ours/", "config": {"resource_classes": list(classes), **config}}
    return {"spec_config": {"gh": [rule]}}


def page(value: object) -> Page:
    return Page(200, {"Content-Type": "application/json"}, json.dumps(value).encode())


def content(text: str) -> Page:
    return page({"encoding": "base64", "content": base64.encodebytes(text.encode()).decode()})


@pytest.mark.parametrize("folder", ["binder", ".binder"])
async def test_a_repository_gets_the_class_that_it_asks_for_and_may_have(forge: Forge, folder: str) -> None:
    files = {f"{folder}/bindery.yaml": "resource_class: large\nlater: x\n"}
    sha = forge.create_repo("ours", "notes", files)
    forge.create_repo("theirs", "notes", files)
    async with running_resolver(forge, **lets("large", "gpu", resource_class="small")) as resolver:
        for ref in ("main", sha):
            repo = await resolver.repo("gh", f"ours/notes/{ref}")
            assert (repo.resource_class, repo.notice) == ("large", None)
            assert repo.config == {"resource_classes": ["large", "gpu"]}
        assert (await resolver.repo("gh", "theirs/notes/main")).resource_class is None
    assert not [request for request in forge.api_requests if "theirs" in request.path and "contents" in request.path]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("resource_class: vast\n", "asks for the resource class vast, which this repository may not have: large."),
        ("resource_class: [a\n", "it is not YAML"),
        ("resource_class: {a: b}\n", "resource_class: string_type"),
        ("- a\n", "body: model_type"),
        ("x: " + "y" * 20_000, "larger than 16 KiB"),
        ("a: &a [*a]", ""),
    ],
)
async def test_what_is_not_granted_is_a_notice_and_ends_no_launch(forge: Forge, text: str, says: str) -> None:
    forge.create_repo("ours", "notes", {"binder/bindery.yaml": text})
    async with running_resolver(forge, **lets("large", resource_class="small")) as resolver:
        repo = await resolver.repo("gh", "ours/notes/main")
    assert repo.resource_class == "small"
    assert says in (repo.notice or "")


@pytest.mark.parametrize("files", [{"a": "b"}, {"binder/bindery.yaml": ""}, {"binder/bindery.yaml": "other: 1\n"}])
async def test_who_asks_for_nothing_has_what_the_policy_says(forge: Forge, files: dict[str, str]) -> None:
    forge.create_repo("ours", "notes", {**files})
    async with running_resolver(forge, **lets("large", resource_class="small")) as resolver:
        repo = await resolver.repo("gh", "ours/notes/main")
    assert (repo.resource_class, repo.notice) == ("small", None)


async def test_the_other_forges_are_asked_for_the_file_by_their_own_apis(forge: Forge) -> None:
    host = forge.url.removeprefix("http://")
    wish = "resource_class: large\n"
    gitlab = "/api/v4/projects/ours%2Fnotes/repository"
    forge.pages |= {
        f"{gitlab}/commits/main": page({"id": SHA, "web_url": f"{forge.url}/ours/notes/-/commit/{SHA}"}),
        f"{gitlab}/files/binder%2Fbindery.yaml": content(wish),
        "/api/v1/repos/ours/notes/git/commits/main": page({"sha": SHA}),
        "/api/v1/repos/ours/notes/contents/binder/bindery.yaml": content(wish),
        f"/api/2.0/repositories/ours/notes/commit/{SHA}": page({"hash": SHA}),
        f"/api/2.0/repositories/ours/notes/src/{SHA}/binder/bindery.yaml": Page(200, {}, wish.encode()),
    }
    settings: dict[str, Any] = {
        "gitlabs": {"gl": {"url": forge.url}},
        "giteas": {host: {"url": forge.url}},
        "bitbucket_url": forge.url,
        "bitbucket_api_url": f"{forge.url}/api/2.0",
        "spec_config": {"*": [{"pattern": ".*", "config": {"resource_classes": ["large"]}}]},
    }
    async with running_resolver(**settings) as resolver:
        links = {"gl": "ours%2Fnotes/main", "gitea": f"{host}/ours/notes/main", "bb": f"ours/notes/{SHA}"}
        for provider, spec in links.items():
            assert (await resolver.repo(provider, spec)).resource_class == "large", provider
