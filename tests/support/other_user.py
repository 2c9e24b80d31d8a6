"""Python code run by a user who is not root: what root may do is no question of modes."""

import subprocess
import sys
from pathlib import Path

from tests.support.paths import CHECKOUT

_NOBODY = 65534
_BEGIN = f"""
import os
from pathlib import Path
if os.geteuid() == 0:
    os.setgroups([]); os.setgid({_NOBODY}); os.setuid({_NOBODY})
"""


def run_as_other_user(imports: str, code: str, folder: Path) -> str:
    """Run code that may write to `folder`, and return what it prints. Fails if the code does.

    `imports` are run before by the user that we are: only root may be able to read this checkout and its Python.
    """
    for parent in (folder, *folder.parents):
        if Path("/tmp") in parent.parents:
            parent.chmod(0o777)
    command = [sys.executable, "-c", imports + _BEGIN + code]
    return subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True).stdout
