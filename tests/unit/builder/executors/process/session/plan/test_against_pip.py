"""pip itself is the judge: from whatever lines, it and we read the same requirements and options."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.plan.build_plan import PipInstall
from tests.support.checkouts import make_checkout, plan_of
from tests.support.pip_parser import PipParser

VARIABLES = {"SIX": "six", "A_URL": "https://a.org/simple", "NOTHING": ""}
WORDS = [
    "six",
    "numpy==2.0",
    "pandas >= 1, < 3",
    "tiny[x]",
    "${SIX}",
    "${MISSING_NAME}",
    "-i https://a.org/simple",
    "--index-url=${A_URL}",
    "--extra-index-url https://b.org/simple",
    "--extra-index 'https://c.org/simple'",
    "--no-index",
    "-f https://d.org/list.html",
    "--find-links wheels",
    "--no-binary :all:",
    "--no-binary=six,Num_Py",
    "--no-binary :none:",
    "--only-binary six,:none:,tiny",
    "--only-binary :all:",
    "--pre",
    "--prefer-binary",
    "--require-hashes",
    "--trusted-host a.org",
    "--hash=sha256:00ff",
    "--hash sha512:aa",
    "-e .",
    "--editable=.",
    "-r more.txt",
    "--requirement=limits.txt",
    "-c limits.txt",
    "-rmore.txt",
    "--no-such-option",
    "--no",
    "'",
    '"',
    "--",
    "-",
    "# words",
    "#",
    "\\",
]
BETWEEN = ["\n", "\n", "\n", "\r\n", " ", " ", "  ", "\t", " \\\n", " # ", "\n\n", "\x0c"]
TEXTS = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(BETWEEN)), max_size=8).map(
    lambda parts: "".join(word + between for word, between in parts)
)


@pytest.fixture(scope="module")
def pip() -> Iterator[PipParser]:
    with PipParser() as parser:
        yield parser


@pytest.mark.slow
@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=TEXTS)
@example(text="six \\\n# ends it\nnumpy==2.0")
@example(text="six\\\n>1\nsix#\n")
@example(text="-r more.txt\n-i https://a.org/simple\n-r more.txt\n")
@example(text="-r more.txt\n-c limits.txt\nsix --no-binary six")
@example(text="--extra-index-url https://b.org/simple\n--no-index\n-i https://a.org/simple\nsix")
def test_lines_and_options_are_those_that_pip_reads(tmp_path: Path, pip: PipParser, text: str) -> None:
    files: dict[str, str | bytes] = {
        "requirements.txt": text,
        "more.txt": "--extra-index-url https://e.org/simple\nsix<2 # old\n",
        "limits.txt": "numpy<3\n--pre\n",
        "setup.py": "",
        "wheels/list": "",
    }
    repo = make_checkout(tmp_path / "repo", files)
    expected = pip.read(repo / "requirements.txt", VARIABLES)
    read = _read(repo)
    if isinstance(read, StepError):
        assert "refused" in expected or _is_refused_later(expected), read.message
    else:
        assert "refused" not in expected
        assert read == _pips(expected, repo)


def _read(repo: Path) -> dict[str, Any] | StepError | None:
    """Return what ours is: requirements and options; None if no package is asked for; or the refusal."""
    try:
        plan = plan_of(repo, {}, **VARIABLES)
    except StepError as error:
        return error
    return next((_ours(install) for install in plan.installs if install.source == "requirements.txt"), None)


def _is_refused_later(expected: dict[str, Any]) -> bool:
    """Whether pip takes the lines apart without a complaint, but not the requirements in them."""
    for requirement, is_editable, is_constraint, _ in expected["lines"]:
        if is_editable and (is_constraint or requirement != "."):
            return True
        if not is_editable and not _is_requirement(requirement):
            return True
    return False


def _is_requirement(text: str) -> bool:
    try:
        Requirement(text)
    except ValueError:
        return False
    return True


def _ours(install: PipInstall) -> dict[str, Any]:
    options = [line for line in install.requirements if line.startswith("--")]
    return {
        "lines": [_sorted_hashes(line) for line in install.requirements if not line.startswith("--")],
        "options": sorted(options),
        "constraints": list(install.constraints),
        "arguments": set(install.arguments),
    }


def _sorted_hashes(line: str) -> str:
    """Return a line with each of its hashes once: pip keeps them by their algorithm."""
    text, *hashes = line.split(" --hash=")
    return " --hash=".join([text, *sorted(set(hashes))])


def _pips(expected: dict[str, Any], repo: Path) -> dict[str, Any] | None:
    """Return what ours must be, from the lines and the state of pip's finder."""
    lines = list(dict.fromkeys(_line(line, repo) for line in expected["lines"] if not line[2]))
    if not lines:
        return None

    urls = list(dict.fromkeys(expected["index_urls"]))
    main = [url for url in urls if url == "OPERATOR"] or urls[:1]
    options = ["--no-index"] * expected["no_index"]
    options += [f"--index-url {url}" for url in main if url != "OPERATOR"]
    options += [f"--extra-index-url {url}" for url in urls if url not in main]
    wheels = str(repo / "wheels")
    places = [(repo / "wheels").as_uri() if place == wheels else place for place in expected["find_links"]]
    options += [f"--find-links {place}" for place in dict.fromkeys(places)]
    options += [f"--no-binary {name}" for name in expected["no_binary"]]
    options += [f"--only-binary {name}" for name in expected["only_binary"]]

    has_hashes = expected["require_hashes"] or any(hashes for *_, hashes in expected["lines"])
    arguments = [f"--allow-insecure-host={host}" for host in expected["trusted_hosts"]]
    arguments += ["--index-strategy=unsafe-best-match"] * (len(urls) > 1)
    arguments += ["--prerelease=allow"] * expected["pre"]
    arguments += ["--require-hashes", "--no-deps"] * bool(has_hashes)
    return {
        "lines": lines,
        "options": sorted(options),
        "constraints": list(dict.fromkeys(_line(line, repo) for line in expected["lines"] if line[2])),
        "arguments": set(arguments),
    }


def _line(line: tuple[str, bool, bool, list[str]], repo: Path) -> str:
    requirement, is_editable, _, digests = line
    if is_editable:
        return f"-e {repo.as_uri()}"
    hashes = (f"{'sha256' if digest == '00ff' else 'sha512'}:{digest}" for digest in digests)
    return _sorted_hashes(" --hash=".join([str(Requirement(requirement)), *hashes]))
