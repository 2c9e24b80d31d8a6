"""The pages of docs/ and the code say the same, and every link in them leads somewhere."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from docs import conf
from docs.generate import errors, files, variables
from docs.generate.advice import ADVICE
from services.builder.executors.process.session.plan.buildpacks import REFUSED_FILES
from services.common.models.error_codes import KINDS
from services.common.redis.families import FAMILIES
from tests.support.paths import CHECKOUT

PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").glob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def prose(page: Path) -> str:
    """A page without its code."""
    return CODE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them: lower case, dashes, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.slow
def test_generated_pages_are_what_the_code_says() -> None:
    assert list(files.stale()) == [], "run `make docs` and commit what it writes"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_can_be_reached_from_the_index() -> None:
    reached = set()
    todo = [CHECKOUT / "docs" / "index.md"]
    while todo:
        page = todo.pop()
        if page not in reached:
            reached.add(page)
            links = (unquote(link).partition("#")[0] for link in LINK.findall(prose(page)))
            todo += [(page.parent / link).resolve() for link in links if link.endswith(".md") and ":" not in link]
    assert {page for page in reached if page.parent == CHECKOUT / "docs"} == set((CHECKOUT / "docs").glob("*.md"))


def test_every_file_of_the_checkout_that_a_page_names_exists() -> None:
    path_in_code = re.compile(r"`((?:services|bindery|deploy|tests|tools|docs)/[\w./-]*(?:\.\w+|/))`")
    named = {(page.name, path) for page in PAGES for path in path_in_code.findall(page.read_text())}
    assert len(named) > 50
    generated = {"tests/artefacts/"}
    missing = [(page, path) for page, path in sorted(named) if path not in generated and not (CHECKOUT / path).exists()]
    assert missing == []


def test_every_page_is_in_the_contents_of_the_site() -> None:
    assert sorted([*conf.PAGES, "index"]) == sorted(page.stem for page in (CHECKOUT / "docs").glob("*.md"))


def test_every_setting_named_in_a_page_exists() -> None:
    named = {name for page in PAGES for name in re.findall(r"\bBINDERY_[A-Z_]*[A-Z]\b", page.read_text())}
    known = variables.documented_variables() | variables.compose_variables()
    assert named - known - {"BINDERY_REDIS_PREFIX"} == set()


def test_every_setting_that_the_code_reads_is_documented() -> None:
    known = variables.documented_variables() | variables.compose_variables()
    assert variables.variables_in_code() - known == set()


def test_every_setting_is_described() -> None:
    bare = [
        f"{kind.__name__}.{name}"
        for _, kind, _ in variables.GROUPS
        for name, field in kind.model_fields.items()
        if not field.description
    ]
    assert bare == []


def test_every_error_has_advice_and_no_advice_is_left_over() -> None:
    assert set(ADVICE) == set(KINDS)
    assert {kind.phase for kind in KINDS.values()} == set(errors.PHASES)


def test_every_expiry_of_a_redis_key_names_a_setting_that_exists() -> None:
    named = {
        f"BINDERY_{name.upper()}"
        for family in FAMILIES
        for name in re.findall(r"\b\w+_(?:seconds|bytes)\b", family.expiry)
    }
    assert named <= variables.documented_variables()
    assert {family.nature for family in FAMILIES} == {"record", "work", "cache"}


def test_authors_are_told_every_file_that_is_refused() -> None:
    page = (CHECKOUT / "docs" / "authors.md").read_text()
    files = (*REFUSED_FILES, "apt.txt", "install.R", "environment.yml", "environment.yaml")
    assert [name for name in files if f"`{name}`" not in page] == []


def test_every_picture_is_small() -> None:
    assert [path.name for path in (CHECKOUT / "docs" / "images").iterdir() if path.stat().st_size > 300_000] == []
