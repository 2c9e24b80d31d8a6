"""A repository of a kind that only git itself understands, from link to server."""

from tests.support.api_launches import ApiLaunch, git_spec, log_of
from tests.support.bare_repos import Content, Gitlink
from tests.support.forge import Forge
from tests.support.lfs_objects import LfsObjects
from tests.support.stack import Stack

ORG = "as-git-clones"
POST_BUILD = """#!/bin/sh
set -e
echo "version $(git describe --tags --dirty)"
echo "branch $(git branch --show-current) of $(git rev-parse --abbrev-ref '@{upstream}')"
echo "data $(cat data.npy) $(cat lib/lib.txt)"
"""


def test_a_build_sees_history_tags_submodules_and_git_lfs(stack: Stack, forge: Forge) -> None:
    forge.lfs = LfsObjects()
    lib = forge.create_repo(ORG, "lib", {"lib.txt": "of a submodule"}, object_format="sha256")
    forge.create_repo(ORG, "repo", {"README.md": "A demo."}, object_format="sha256", branch="#1-größe")
    files: dict[str, Content] = {
        ".gitattributes": "*.npy filter=lfs -text\n",
        ".gitmodules": '[submodule "lib"]\n\tpath = lib\n\turl = ../lib\n',
        "data.npy": forge.lfs.add(b"of Git LFS"),
        "lib": Gitlink(lib),
        "postBuild": POST_BUILD,
    }
    sha = forge.commit(ORG, "repo", files, branch="#1-größe")
    forge.tag(ORG, "repo", "v1.0", sha, annotated=True)

    launch = ApiLaunch.begin(stack, git_spec(f"{forge.url}/{ORG}/repo", "#1-größe"))
    view = launch.until_ended()
    log = log_of(stack, view["build_id"])
    assert "version v1.0\n" in log
    assert "branch #1-größe of origin/#1-größe\n" in log
    assert "data of Git LFS of a submodule\n" in log
    assert sha in log


def test_a_repository_without_a_default_branch_is_told_from_a_typing_error(stack: Stack, forge: Forge) -> None:
    forge.create_repo(ORG, "headless", {"README.md": "A demo."}, branch="trunk")
    forge.git(ORG, "headless", "symbolic-ref", "HEAD", "refs/heads/main")
    url = f"{forge.url}/{ORG}/headless"
    problem = ApiLaunch.begin(stack, git_spec(url)).problem()
    assert problem["code"] == "ref_not_found"
    assert problem["detail"].endswith("Name a branch in the link, such as trunk.")
