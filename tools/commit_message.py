"""The rule for commit messages, as a git hook (`commit-msg`) and as a check of a range of commits.

CONTRIBUTING.md says the rule in words. `python -m tools.commit_message --range origin/main..HEAD` checks a branch.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

SUBJECT_LENGTH = 72
"""The length that `git log --oneline` and a forge's list of commits show without cutting it off."""

_WRITTEN_BY_GIT = re.compile(r'Merge |Revert "|(fixup|squash|amend)! ')
_SCISSORS = re.compile(r"# -+ >8 -+")
_TRAILER = re.compile(r"[A-Za-z]+(-[A-Za-z]+)+: ")


def problems_of(message: str) -> list[str]:
    """Return what is wrong with a commit message, as sentences; an empty list if it is fine.

    Merges, reverts and commits to be squashed carry git's own subject, so they are exempt.
    """
    lines = _without_comments(message)
    subject = lines[0] if lines else ""
    if not subject.strip():
        return ["The first line must be the subject: what the commit does, in one line."]
    if _WRITTEN_BY_GIT.match(subject):
        return []

    problems = []
    if len(subject) > SUBJECT_LENGTH:
        problems.append(f"The subject has {len(subject)} characters; {SUBJECT_LENGTH} are the most.")
    if subject.endswith("."):
        problems.append("The subject is a title: it must not end with a period.")
    if len(lines) > 1 and lines[1].strip():
        problems.append("The second line must be blank.")
    if not any(line.strip() and not _TRAILER.match(line) for line in lines[1:]):
        problems.append("The body is missing: say why the change is made, and why in this way.")
    return problems


def _without_comments(message: str) -> list[str]:
    """Return the lines that git will keep, without blank lines at the start and end."""
    lines = []
    for line in message.splitlines():
        if _SCISSORS.match(line):
            break
        if not line.startswith("#"):
            lines.append(line.rstrip())

    return "\n".join(lines).strip("\n").splitlines()


def _commits(revisions: str) -> dict[str, str]:
    """Return the message of each commit in a range, by its abbreviated id. Raise `CalledProcessError`."""
    command = ["git", "log", "--no-merges", "-z", "--format=%h%n%B", revisions]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    entries = (entry.partition("\n") for entry in output.split("\0") if entry)
    return {commit: message for commit, _, message in entries}


def main() -> int:
    """Print the problems of a message, or of each commit in a range; return the exit status."""
    parser = argparse.ArgumentParser(description="Check commit messages.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("file", nargs="?", type=Path, help="a file with one message, as git gives it to its hook")
    source.add_argument("--range", metavar="REVISIONS", help="commits, as `git log` takes them")
    arguments = parser.parse_args()

    if arguments.range:
        messages = _commits(arguments.range)
    else:
        messages = {"commit message": arguments.file.read_text(encoding="utf-8")}

    status = 0
    for name, message in messages.items():
        for problem in problems_of(message):
            print(f"{name}: {problem}", file=sys.stderr)
            status = 1

    if status:
        print("CONTRIBUTING.md has the rule.", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
