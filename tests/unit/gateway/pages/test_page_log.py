"""A build's log in the page: `log.js`, in the node that Playwright brings."""

import json
import subprocess
from typing import Any

import pytest
from playwright._impl._driver import compute_driver_executable

from services.gateway.pages.static_assets import STATIC

NODE = compute_driver_executable()[0]
ENDS_SECONDS = 60
"""What is read once takes milliseconds; read again from each of its letters, it would take hours."""


def _run(code: str, argument: object = None) -> Any:
    """What `code`, a function's body, returns for `argument`, with all that log.js exports in its reach."""
    module = (STATIC / "log.js").read_text()
    script = (
        f"{module}\nconst run = (argument) => {{{code}}};\nconsole.log(JSON.stringify(run({json.dumps(argument)})));\n"
    )
    command = [NODE, "--input-type=module", "-"]
    result = subprocess.run(command, input=script, capture_output=True, text=True, timeout=ENDS_SECONDS, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("plain\tand tab", "plain\tand tab"),
        ("\x1b[31mred\x1b[0m and \x9b1;32mgreen\x9bm", "red and green"),
        ("10%\r50%\r100%", "100%"),
        ("100%\r", "100%"),
        ("\x1b[2K\r\x1b[1A", ""),
        ("\x1b]0;a title\x07shown", "shown"),
        ("\x1b]8;;https://example.org\x1b\\a link\x1b]8;;\x1b\\", "a link"),
        ("\x9d0;a title\x9cshown", "shown"),
        ("\x90device\x9cshown", "shown"),
        ("\x1b]0;without end", ""),
        ("\x1b]0;broken off\x1b[31mred", "red"),
        ("\x9dbroken off\x1b[31mred", "red"),
        ("\x1b[12;3\x1b[0mred", "red"),
        ("before\x1b[31", "before"),
        ("before\x1b", "before"),
        ("\x1b(Bshown", "shown"),
        ("a\x00b\x08c\u202ed", "abcd"),
    ],
)
def test_a_line_is_shown_as_a_terminal_would_leave_it(line: str, expected: str) -> None:
    assert _run("return cleanLine(argument)", line) == expected


def test_no_sequence_of_a_terminal_is_left_of_any_mixture() -> None:
    mixed = """
      const parts = [..."\\x1b[]\\x9b\\x90\\x9d\\x07\\x9c\\\\0;m \\ra"];
      let seed = 7;
      const next = () => parts[(seed = (seed * 1103515245 + 12345) % 2147483648) % parts.length];
      return Array.from({ length: 20000 }, () => cleanLine(Array.from({ length: 12 }, next).join("")));
    """
    assert all(line.isprintable() for line in _run(mixed))


@pytest.mark.parametrize(
    "beginning", ["\x90", "\x1b]", "\x1bP", "\x9b0", "\x1b[", "\x1b[0 ", "\x9b;", "\x1b ", "\x9d\x1b]", "\r", "\u202e"]
)
def test_a_line_that_begins_a_million_sequences_and_ends_none_is_read_once(beginning: str) -> None:
    """Also while it has no end: then it is painted again with each piece of it."""
    code = """
      const line = argument.repeat(2 ** 20) + "\\x1bX";
      const whole = new Lines().push(line + "\\n")[0];
      const open = new Lines();
      for (let from = 0; from < line.length; from += 16384) { open.push(line.slice(from, from + 16384)); open.tail; }
      return [whole, open.open.length];
    """
    assert _run(code, beginning) == ["", 65_536]


def test_a_long_line_is_cut_and_says_how_much_is_left_out() -> None:
    assert _run("return cleanLine('x'.repeat(10000))") == f"{'x' * 4000} … (6000 more characters)"


@pytest.mark.parametrize(
    ("position", "other", "expected"),
    [
        ("17-3.3", "17-3.2", True),
        ("17-3.2", "17-3.2", False),
        ("17-3.1", "17-3.2", False),
        ("17-10.1", "17-9.8", True),
        ("18-0.1", "17-18446744073709551615.9", True),
        ("9-0.1", "10-0.1", False),
        ("17-0.1", "0-0.0", True),
    ],
)
def test_positions_in_a_log_compare_as_numbers(position: str, other: str, expected: bool) -> None:
    assert _run("return comesAfter(...argument)", [position, other]) is expected
