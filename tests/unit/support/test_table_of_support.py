"""The docstring of tests/support names each file in it, and nothing else."""

from fnmatch import fnmatch
from pathlib import Path
from re import findall

import tests.support


def test_each_file_is_named_and_each_name_is_a_file() -> None:
    names = set(findall(r"`([\w*]+)`", tests.support.__doc__ or ""))
    files = {path.stem for path in Path(tests.support.__file__).parent.glob("*.py")} - {"__init__"}
    assert [file for file in sorted(files) if not any(fnmatch(file, name) for name in names)] == []
    assert [name for name in sorted(names) if not any(fnmatch(file, name) for file in files)] == []
