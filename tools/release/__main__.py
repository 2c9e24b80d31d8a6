"""`python3 -m tools.release`: the steps of docs/release.md."""

import argparse
import datetime
import sys
from collections.abc import Callable
from pathlib import Path

from tools.release import changelog, checks, rehearsal, version
from tools.release.version import ReleaseError

Step = Callable[[Path, argparse.Namespace], int]


def check(checkout: Path, arguments: argparse.Namespace) -> int:
    """Say what keeps this commit from being released."""
    problems = checks.problems(checkout, _today(), arguments.tag)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"{version.read(checkout)} can be released.")
    return int(bool(problems))


def prepare(checkout: Path, _arguments: argparse.Namespace) -> int:
    """Put today's date into the changelog's heading."""
    changelog.set_date(checkout, version.read(checkout), _today())
    return 0


def begin(checkout: Path, arguments: argparse.Namespace) -> int:
    """Set the next version, and begin its section of the changelog."""
    following = arguments.version
    newest = changelog.sections(checkout)[0]
    if version.parse(following) <= version.parse(newest.version):
        raise ReleaseError(f"{following} is not later than {newest.version}, with which {changelog.FILE} begins.")

    changelog.add_section(checkout, following)
    version.write(checkout, following)
    return 0


def notes(checkout: Path, arguments: argparse.Namespace) -> int:
    """Print what changed in a version, for the release's page."""
    section = changelog.section(checkout, arguments.version or version.read(checkout))
    print(changelog.notes(section.text, arguments.links_to), end="")
    return 0


def show_version(checkout: Path, _arguments: argparse.Namespace) -> int:
    """Print the version of this checkout."""
    print(version.read(checkout))
    return 0


def rehearse(checkout: Path, arguments: argparse.Namespace) -> int:
    """Make all that a release publishes, and try it; nothing leaves this machine."""
    rows = rehearsal.run(checkout, _today(), arguments.parts or rehearsal.PARTS)
    return int(any(row.outcome is rehearsal.Outcome.FAILED for row in rows))


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tools.release", description="The steps of docs/release.md.")
    steps = parser.add_subparsers(required=True, metavar="STEP")

    def add(name: str, step: Step) -> argparse.ArgumentParser:
        added = steps.add_parser(name, help=step.__doc__, description=step.__doc__)
        added.set_defaults(step=step)
        return added

    add("check", check).add_argument("--tag", help="the tag that is on this commit, as a workflow knows it")
    add("prepare", prepare)
    add("begin", begin).add_argument("version", help=f"the next version: {version.FORM}")
    of_notes = add("notes", notes)
    of_notes.add_argument("version", nargs="?", help="the version; this checkout's if it is not named")
    of_notes.add_argument("--links-to", metavar="URL", default="", help="where the files are that links name")
    of_try = add("try", rehearse)
    of_try.add_argument("parts", nargs="*", metavar="PART", help=f"all if none is named: {', '.join(rehearsal.PARTS)}")
    add("version", show_version)
    return parser


def main(checkout: Path | None = None) -> int:
    """Run one step in the current folder, and return its exit status."""
    arguments = _parser().parse_args()
    step: Step = arguments.step
    try:
        return step(checkout or Path.cwd(), arguments)
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
