"""The lines of a requirements file, split as pip splits them."""

import pytest

from services.builder.executors.process.session.plan.requirement_lines import (
    InvalidLineError,
    LineOptions,
    parse_line,
    split_lines,
)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("six", [(1, "six")]),
        ("\n\n  six  \r\n# note\nnumpy # why\n", [(3, "six"), (5, "numpy")]),
        ("six#no-comment\n", [(1, "six#no-comment")]),
        ("six \\\n  ==1.0 \\\n  --hash=sha256:aa\nnext\n", [(1, "six   ==1.0   --hash=sha256:aa"), (4, "next")]),
        ("six \\\n# ends it\nnumpy\n", [(1, "six"), (3, "numpy")]),
        ("# a comment \\\nsix\n", [(2, "six")]),
        ("six\\", [(1, "six")]),
        ("six==1.0\\\n", [(1, "six==1.0")]),
        ("a\x0cb\n", [(1, "a"), (2, "b")]),
        ("--index-url https://${NAME}:${PASSWORD_1}@host\n", [(1, "--index-url https://me:secret@host")]),
        ("${EMPTY}${MISSING}${lower}$NAME\n", [(1, "${EMPTY}${MISSING}${lower}$NAME")]),
        ("https://host/${HASHES}\n", [(1, "https://host/a # b")]),
    ],
)
def test_lines_are_joined_stripped_and_filled_in(text: str, lines: list[tuple[int, str]]) -> None:
    variables = {"NAME": "me", "PASSWORD_1": "secret", "EMPTY": "", "lower": "x", "HASHES": "a # b"}
    assert list(split_lines(text, variables)) == lines


@pytest.mark.parametrize(
    ("line", "requirement", "options"),
    [
        ("six", "six", LineOptions()),
        ('six ; python_version < "3"', 'six ; python_version < "3"', LineOptions()),
        ("six --hash=sha256:a --hash sha256:b", "six", LineOptions(hashes=("sha256:a", "sha256:b"))),
        ("-r more.txt", "", LineOptions(requirements=("more.txt",))),
        ("-rmore.txt", "", LineOptions(requirements=("more.txt",))),
        ("--requirement=more.txt", "", LineOptions(requirements=("more.txt",))),
        ("--requirem more.txt", "", LineOptions(requirements=("more.txt",))),
        ("-c 'with space.txt'", "", LineOptions(constraints=("with space.txt",))),
        (
            "-i https://a --extra-index-url https://b",
            "",
            LineOptions(index_url="https://a", extra_index_urls=("https://b",)),
        ),
        ("--pypi-url=https://a", "", LineOptions(index_url="https://a")),
        ("--no-index -f ./a -f ./b", "", LineOptions(no_index=True, find_links=("./a", "./b"))),
        ("--no-binary a --only-binary=b,c", "", LineOptions(formats=(("source", "a"), ("binary", "b,c")))),
        ("--pre --prefer-binary --require-hashes", "", LineOptions(pre=True, prefer_binary=True, require_hashes=True)),
        ("--trusted-host a:80", "", LineOptions(trusted_hosts=("a:80",))),
        ("--use-feature=fast-deps", "", LineOptions()),
        ("-e .[test] ; python_version > '3'", "", LineOptions(editables=(".[test]",))),
        ("six -C a=b --global-option=x", "six", LineOptions(config_settings=("a=b",), global_options=("x",))),
        ("--no-index six", "", LineOptions(no_index=True)),
    ],
)
def test_options_are_told_from_the_requirement(line: str, requirement: str, options: LineOptions) -> None:
    parsed = parse_line(7, line)
    assert (parsed.number, parsed.requirement, parsed.options) == (7, requirement, options)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("--no-such-option", "no such option: --no-such-option"),
        ("--no", "ambiguous option: --no"),
        ("-r", "-r option requires 1 argument"),
        ("--index-url 'open", "no closing quotation"),
        ("--no-index=yes", "--no-index option does not take a value"),
        ("--help", "no such option: --help"),
    ],
)
def test_a_line_that_pip_refuses_is_refused(line: str, complaint: str) -> None:
    with pytest.raises(InvalidLineError, match=complaint):
        parse_line(1, line)
