"""The commands of a checkout, in a wheel that lacks it."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.settings import CHECKOUT


def bindery_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as if `bindery/` were in `folder`: a wheel brings nothing beside it."""
    code = (
        "import sys, pathlib; from bindery.cli import checkout, main; "
        "checkout.CHECKOUT = pathlib.Path(sys.argv.pop(1)); sys.exit(main())"
    )
    command = [sys.executable, "-c", code, str(folder), *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("command", "target"),
    [("up", "up"), ("url", "up"), ("stop", "up"), ("doctor", "up"), ("check", "up"), ("hub-values", "hub-values")],
)
def test_a_bare_wheel_says_in_one_line_how_to_get_the_rest(tmp_path: Path, command: str, target: str) -> None:
    result = bindery_in(tmp_path, command)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert f"clone the repository and run `make {target}`" in result.stderr
