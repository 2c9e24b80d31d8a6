"""Provider `swh` of the resolver, against replies in the form that Software Heritage documents."""

from collections.abc import Mapping
from urllib.parse import quote

import pytest

from tests.support.archives import recorded, reply, resolver_of_archives
from tests.support.forge import Forge, Page

REVISION = "69c0db5050f623e8895b72dfe970392b1f9a0e2e"
RELEASE = "208f61cc7a5dbc9879ae6e5c2f95891e270f09ef"
SNAPSHOT = "cabcc7d7bf639bbe1cc3b41989e1806618dd5764"
OTHER = "0123456789abcdef0123456789abcdef01234567"
SWHID = f"swh:1:rev:{REVISION}"


@pytest.fixture
def swh(forge: Forge) -> Forge:
    """An archive with one revision, its directory, a release of it, and a snapshot that leads to both."""
    for kind in ("rev", "dir"):
        resolved = recorded("archive.softwareheritage.org_api_1_resolve_rev")
        forge.pages[f"/swh/resolve/swh:1:{kind}:{REVISION}/"] = resolved.page
    forge.pages[f"/swh/release/{RELEASE}/"] = recorded("archive.softwareheritage.org_api_1_release").page
    put(forge, {"HEAD": ("alias", "refs/heads/main"), "refs/heads/main": ("revision", REVISION)})
    return forge


def put(forge: Forge, *pages: Mapping[str, tuple[str, str] | None]) -> None:
    """Have a snapshot's branches be those of `pages`, of which each is answered once."""
    snapshot = recorded("archive.softwareheritage.org_api_1_snapshot")
    answers = []
    for branches in pages:
        snapshot.body["branches"] = {
            name: branch and {"target_type": branch[0], "target": branch[1]} for name, branch in branches.items()
        }
        answers.append(snapshot.page)
    forge.pages[f"/swh/snapshot/{SNAPSHOT}/"] = answers if len(answers) > 1 else answers[0]


@pytest.mark.parametrize(
    ("spec", "swhid"),
    [
        (SWHID, SWHID),
        (quote(SWHID, safe=""), SWHID),
        (f"{SWHID};origin=https://github.com/python/cpython;path=/Doc/", SWHID),
        (f"swh:1:dir:{REVISION}", f"swh:1:dir:{REVISION}"),
        (f"swh:1:rel:{RELEASE}", SWHID),
        (f"swh:1:snp:{SNAPSHOT}", SWHID),
    ],
)
async def test_what_repo2docker_takes_is_kept_and_the_rest_leads_to_a_revision(
    swh: Forge, spec: str, swhid: str
) -> None:
    async with resolver_of_archives(swh) as resolver:
        repo = await resolver.repo("swh", spec)
    kind = swhid.split(":")[2]
    left_out = {"v", "quota", "is_own", "config", "resource_class", "notice", "visibility", "reached_url"}
    assert repo.model_dump(exclude=left_out) == {
        "provider": "swh",
        "spec": spec.rstrip("/"),
        "repo_url": swhid,
        "ref": REVISION,
        "resolved_spec": swhid,
        "ref_url": f"https://archive.softwareheritage.org/{swhid}",
        "slug": f"swh-archive.softwareheritage.org-{kind}-{REVISION}",
        "display_name": swhid,
        "immutable_spec": True,
        "content_provider": "Swhid",
        "ignores_case": False,
    }


@pytest.mark.parametrize(
    "branches",
    [
        {"HEAD": ("revision", REVISION), "refs/heads/main": ("revision", OTHER)},
        {"refs/heads/main": ("revision", REVISION), "refs/heads/master": ("revision", OTHER)},
        {"refs/heads/a": ("revision", OTHER), "refs/heads/master": ("revision", REVISION)},
        {"branch-tip/default": ("revision", REVISION)},
        {"HEAD": ("release", RELEASE)},
        {"HEAD": ("alias", "a"), "a": ("alias", "b"), "b": ("release", RELEASE)},
    ],
)
async def test_the_default_branch_of_a_snapshot(swh: Forge, branches: dict[str, tuple[str, str]]) -> None:
    put(swh, branches)
    async with resolver_of_archives(swh) as resolver:
        assert (await resolver.repo("swh", f"swh:1:snp:{SNAPSHOT}")).repo_url == SWHID


async def test_a_branch_behind_the_first_thousand_is_asked_for(swh: Forge) -> None:
    put(swh, {"HEAD": ("alias", "refs/heads/z+y"), "a": None}, {"refs/heads/z+y": ("revision", REVISION)})
    async with resolver_of_archives(swh) as resolver:
        assert (await resolver.repo("swh", f"swh:1:snp:{SNAPSHOT}")).repo_url == SWHID
    assert swh.requests[-1].path == f"/swh/snapshot/{SNAPSHOT}/?branches_from=refs%2Fheads%2Fz%2By&branches_count=1"


@pytest.mark.parametrize(
    ("branches", "says"),
    [
        ({}, "has no default branch. Launch one of its revisions"),
        ({"a": ("revision", OTHER), "b": ("revision", OTHER)}, "has no default branch"),
        ({"HEAD": None}, "has no default branch"),
        ({"HEAD": ("alias", "nowhere")}, "has no default branch"),
        ({"HEAD": ("alias", "HEAD")}, "has no default branch"),
        ({"HEAD": ("content", OTHER)}, "It is of a content on Software Heritage, not of a revision."),
        ({"HEAD": ("snapshot", SNAPSHOT)}, "leads to no revision of source code"),
    ],
)
async def test_a_snapshot_that_leads_to_nothing(
    swh: Forge, branches: dict[str, tuple[str, str] | None], says: str
) -> None:
    put(swh, branches)
    async with resolver_of_archives(swh) as resolver:
        problem = await resolver.problem("swh", f"swh:1:snp:{SNAPSHOT}")
    assert problem.code == "ref_not_found"
    assert says in problem.detail


@pytest.mark.parametrize("target", [None, 1, "x", f"{OTHER}/../../x"])
async def test_a_release_of_what_is_no_object_is_not_understood(swh: Forge, target: object) -> None:
    swh.pages[f"/swh/release/{RELEASE}/"] = reply({"target_type": "revision", "target": target})
    async with resolver_of_archives(swh) as resolver:
        assert (await resolver.problem("swh", f"swh:1:rel:{RELEASE}")).code == "provider_unavailable"


@pytest.mark.parametrize("kind", ["rev", "dir", "rel", "snp"])
async def test_what_is_not_archived_is_said_with_what_to_do(swh: Forge, kind: str) -> None:
    async with resolver_of_archives(swh) as resolver:
        problem = await resolver.problem("swh", f"swh:1:{kind}:{OTHER}")
    assert problem.code == "ref_not_found"
    assert f"There is no swh:1:{kind}:{OTHER} on Software Heritage. Its repository can be archived at" in problem.detail


@pytest.mark.parametrize(
    "spec",
    ["x", REVISION, f"swh:2:rev:{REVISION}", f"swh:1:cnt:{REVISION}", f"swh:1:ori:{REVISION}", f"swh:1:xyz:{REVISION}",
     f"swh:1:rev:{REVISION}0", f"swh:1:rev:{REVISION[1:]}", f"{SWHID}/x", f"{SWHID} x"],
)  # fmt: skip
async def test_what_is_no_swhid_of_source_code_is_refused_unasked(swh: Forge, spec: str) -> None:
    async with resolver_of_archives(swh) as resolver:
        problem = await resolver.problem("swh", quote(spec, safe=""))
    assert problem.code == "bad_spec"
    assert "is not the SWHID of a revision, a directory, a release or a snapshot" in problem.detail
    assert swh.requests == []


async def test_the_operators_tokens_are_used_in_turn(swh: Forge) -> None:
    page = f"/swh/resolve/{SWHID}/"
    swh.pages[page] = [
        Page(429, {"Retry-After": "60"}),
        recorded("archive.softwareheritage.org_api_1_resolve_rev").page,
    ]
    async with resolver_of_archives(swh, software_heritage_token="one,two") as resolver:
        await resolver.repo("swh", SWHID)
    assert {request.headers["authorization"] for request in swh.requests} == {"Bearer one", "Bearer two"}


async def test_a_ban_holds_for_every_way_to_write_a_swhid_and_for_what_it_leads_to(swh: Forge) -> None:
    async with resolver_of_archives(swh, banned_specs={"swh": [SWHID]}) as resolver:
        for spec in (SWHID, quote(SWHID, safe=""), f"{SWHID};path=/x", f"swh:1:rel:{RELEASE}", f"swh:1:snp:{SNAPSHOT}"):
            assert (await resolver.problem("swh", spec)).code == "banned", spec
    async with resolver_of_archives(swh, allowed_specs={"swh": [SWHID]}) as resolver:
        await resolver.repo("swh", quote(SWHID, safe=""))
        assert (await resolver.problem("swh", f"swh:1:dir:{REVISION}")).code == "banned"
