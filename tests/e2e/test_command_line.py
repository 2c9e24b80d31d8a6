"""`bindery launch` against the real stack: the address alone on standard output, all else on standard error."""

import os
import subprocess
import sys
from urllib.parse import urlsplit

from tests.support.api_launches import git_spec
from tests.support.forge import Forge
from tests.support.paths import CHECKOUT
from tests.support.stack import Stack

ORG = "command-line"


def bindery(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user of this gateway does."""
    environ = os.environ | {"BINDERY_GATEWAY_URL": stack.url, "BINDERY_DATA_DIR": str(stack.data_dir)}
    environ |= {"HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}  # not asked for this machine
    command = [sys.executable, "-m", "bindery", *arguments]
    return subprocess.run(
        command, cwd=CHECKOUT, env=environ, capture_output=True, text=True, check=False, timeout=120
    )  # fmt: skip


def test_launch_prints_the_address_alone_and_the_log_beside_it(stack: Stack, forge: Forge) -> None:
    sha = forge.create_repo(ORG, "good", {"postBuild": "#!/bin/sh\nprintf 'a line \\033[31mof the build\\n'\n"})
    process = bindery(stack, "launch", f"git/{git_spec(f'{forge.url}/{ORG}/good', sha)}", "--path", "lab/tree/a b.txt")
    assert process.returncode == 0, process.stderr
    (address,) = process.stdout.splitlines()
    parts = urlsplit(address)
    (user,) = stack.hub_users()
    assert parts.path == f"/user/{user}/lab/tree/a%20b.txt"
    answer = stack.client.get(address)
    assert (answer.status_code, answer.json()["path"]) == (200, "lab/tree/a%20b.txt")
    assert "a line of the build\n" in process.stderr
    assert "\x1b" not in process.stderr
    assert parts.query.removeprefix("token=") not in process.stderr


def test_a_launch_that_fails_says_why_and_prints_no_address(stack: Stack, forge: Forge) -> None:
    sha = forge.create_repo(ORG, "bad", {"postBuild": "#!/bin/sh\necho it does not work\nexit 3\n"})
    process = bindery(stack, "launch", f"git/{git_spec(f'{forge.url}/{ORG}/bad', sha)}")
    assert (process.returncode, process.stdout) == (1, "")
    lines = process.stderr.splitlines()
    assert "it does not work" in lines
    assert lines[-1].endswith("[build_failed]")
    assert "exit status 3" in process.stderr


def test_a_link_that_leads_nowhere_is_one_sentence(stack: Stack, forge: Forge) -> None:
    forge.create_repo(ORG, "other", {"a": "a"})
    process = bindery(stack, "launch", f"git/{git_spec(f'{forge.url}/{ORG}/other', 'no-such-ref')}")
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.splitlines()[-1].endswith("[ref_not_found]")
