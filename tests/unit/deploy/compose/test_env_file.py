"""Files of variables, in Compose's syntax."""

import stat
from pathlib import Path

import pytest

from deploy.compose import env_file


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("export A = b", "b"),
        ("A=b # what it is", "b"),
        ("A=b#c", "b#c"),
        ("A=#c", ""),
        ("A='b # $c'", "b # $c"),
        ('A="b \\"c\\"" # d', 'b "c"'),
        ("A=", ""),
        ("#A=c\nA=b", "b"),
        ("A=c\nA=b", "b"),
    ],
)
def test_a_line_is_read_as_compose_reads_it(line: str, value: str) -> None:
    assert env_file.parse(line) == {"A": value}


def test_a_variable_is_set_where_its_line_leaves_it_empty_or_at_the_end() -> None:
    assert env_file.with_variable("# x\nA=\nB=c\n", "A", "1") == "# x\nA=1\nB=c\n"
    assert env_file.with_variable("#A=\nB=c", "A", "1") == "#A=\nB=c\nA=1\n"
    assert env_file.with_variable("", "A", "1") == "A=1\n"


def test_what_is_written_is_read_again_the_same() -> None:
    values = {"A": '{"auths": {"x:5000": {"auth": "YW5u"}}}', "B": "$b # c"}
    assert env_file.parse(env_file.render(values)) == values


def test_a_file_is_replaced_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.env"
    path.write_text("old")
    path.chmod(0o644)
    env_file.write(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]
