"""runtime.txt, in each form that repo2docker takes."""

from pathlib import Path

import pytest

from services.builder.executors.process.session.errors import StepError
from tests.support.checkouts import plan_of


@pytest.mark.parametrize(
    ("content", "python"),
    [
        ("python-3.12\n", "3.12"),
        ("  python-3.12.4  \r\n\r\n", "3.12.4"),
        ("python-3.11.x", "3.11"),
        ("python-3.11.*", "3.11"),
        ("python-3", None),
        ("python-3.11-2024-01-31", "3.11"),
        ("python-2024-01-31", None),
        ("", None),
        ("\n", None),
        (b"\xef\xbb\xbfpython-3.11\r\n", "3.11"),
        ("python-3.11".encode("utf-16"), "3.11"),
        ("julia-1.6", None),
    ],
)
def test_runtime_names_a_python(tmp_path: Path, content: str | bytes, python: str | None) -> None:
    assert plan_of(tmp_path, {"runtime.txt": content}).python == python


@pytest.mark.parametrize(
    "text",
    [
        "python",
        "python-",
        "python-3.12; rm -rf /",
        "--python=x",
        "python-3.\u0661\u0662",
        "python-3.12\n--mirror=https://example.org",
        "python-3.12-2024",
        "python-x",
        "python-4",
        "python->=3.10",
    ],
)
def test_another_text_is_refused_and_quoted(tmp_path: Path, text: str) -> None:
    with pytest.raises(StepError, match=r"^runtime.txt says .*; it must name a Python like python-3.12$") as error:
        plan_of(tmp_path, {"runtime.txt": text})
    assert error.value.code == "build_failed"


def test_a_date_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"its date must be like 2025-01-31$"):
        plan_of(tmp_path, {"runtime.txt": "r-4.1-2023-1-1"})


def test_a_text_of_kilobytes_is_quoted_in_part(tmp_path: Path) -> None:
    with pytest.raises(StepError) as error:
        plan_of(tmp_path, {"runtime.txt": f"python-{'3' * 9000}"})
    assert len(error.value.message) < 250
