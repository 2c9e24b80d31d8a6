"""The rule for commit messages, as git's hook applies it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import CHECKOUT
from tools.commit_message import problems_of

SUBJECT = "Keep a start ready once its event is written"
BODY = "A launcher that lost its lease in that moment reported the start as failed."


@pytest.mark.parametrize(
    "message",
    [
        f"{SUBJECT}\n\n{BODY}\n",
        f"{SUBJECT}\n\n{BODY}\nAnd a second line.\n\nCo-authored-by: A <a@example.org>\n",
        f"{'x' * 72}\n\n{BODY}\n",
        f"\n{SUBJECT}\n\n{BODY}\n# Please enter the commit message\n#\tmodified: README.md\n",
        f"{SUBJECT}\n\n{BODY}\n# ------------------------ >8 ------------------------\ndiff --git a/x b/x\n",
        "Merge branch 'main' into a-branch-with-a-name-that-is-longer-than-any-subject-may-be\n",
        'Revert "Keep a start ready once its event is written, and another thing that is too long"\n',
        "fixup! Keep a start ready\n",
        "squash! Keep a start ready\n",
        "amend! Keep a start ready\n",
    ],
)
def test_a_message_that_says_what_and_why_is_taken(message: str) -> None:
    assert problems_of(message) == []


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("", "The first line must be the subject"),
        ("# nothing but comments\n", "The first line must be the subject"),
        (f"{'x' * 73}\n\n{BODY}\n", "The subject has 73 characters; 72 are the most."),
        (f"{SUBJECT}.\n\n{BODY}\n", "must not end with a period"),
        (f"{SUBJECT}\n{BODY}\n", "The second line must be blank."),
        (f"{SUBJECT}\n", "The body is missing"),
        (f"{SUBJECT}\n\nSigned-off-by: A <a@example.org>\n", "The body is missing"),
        (f"{SUBJECT}\n\n# ------------------------ >8 ------------------------\n{BODY}\n", "The body is missing"),
    ],
)
def test_one_that_does_not_is_refused_with_the_reason(message: str, problem: str) -> None:
    (answer,) = problems_of(message)
    assert problem in answer


def test_git_refuses_a_commit_by_its_hook(tmp_path: Path) -> None:
    file = tmp_path / "COMMIT_EDITMSG"
    file.write_text(f"{SUBJECT}\n")
    command = [sys.executable, "-m", "tools.commit_message", str(file)]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[0].startswith("commit message: The body is missing")


def test_a_branch_is_checked_commit_by_commit(tmp_path: Path) -> None:
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    for message in (f"{SUBJECT}\n\n{BODY}", SUBJECT):
        commit = ["git", "-C", str(tmp_path), *author, "commit", "--quiet", "--allow-empty", "--message", message]
        subprocess.run(commit, check=True)
    last = subprocess.run(
        ["git", "-C", tmp_path, "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()

    command = [sys.executable, "-m", "tools.commit_message", "--range", "HEAD"]
    environ = {"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin:/usr/local/bin"}
    result = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    problems = [line for line in result.stderr.splitlines() if "missing" in line]
    assert [line.partition(":")[0] for line in problems] == [last]
