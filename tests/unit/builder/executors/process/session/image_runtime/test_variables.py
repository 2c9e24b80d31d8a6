"""The variables of what runs in an image."""

import os
import pwd
import sys
from pathlib import Path

import pytest

from services.builder.executors.process.session.image_runtime.variables import image_variables

UTF8 = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"


def variables(**base: str) -> dict[str, str]:
    return image_variables(base, env=Path("/image/env"), repo=Path("/image/repo"))


def test_they_are_those_of_repo2docker() -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    assert variables(PATH="/usr/bin:/bin", TZ="UTC") == {
        "PATH": "/image/repo/.local/bin:/image/env/bin:/usr/bin:/bin",
        "TZ": "UTC",
        "HOME": "/image/repo",
        "REPO_DIR": "/image/repo",
        "VIRTUAL_ENV": "/image/env",
        "NB_PYTHON_PREFIX": "/image/env",
        "KERNEL_PYTHON_PREFIX": "/image/env",
        "USER": user,
        "NB_USER": user,
        "NB_UID": str(os.getuid()),
        "SHELL": "/bin/bash",
        "LANG": UTF8,
        "PYTHONUNBUFFERED": "1",
    }


@pytest.mark.parametrize(
    ("inherited", "lang", "all_locales"),
    [
        ({"LANG": "de_DE.UTF-8"}, "de_DE.UTF-8", None),
        ({"LANG": "de_DE.utf8@euro"}, "de_DE.utf8@euro", None),
        ({"LANG": "de_DE.ISO-8859-1", "LC_ALL": "C"}, UTF8, None),
        ({"LANG": "POSIX", "LC_ALL": "fr_FR.UTF-8"}, UTF8, "fr_FR.UTF-8"),
    ],
)
def test_the_locale_is_one_of_utf_8(inherited: dict[str, str], lang: str, all_locales: str | None) -> None:
    given = variables(**inherited)
    assert (given["LANG"], given.get("LC_ALL")) == (lang, all_locales)


def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert variables()["USER"] == "4000000000"
