"""docs/images.md lists the images and variables that `make images` has."""

import re

from tests.support.paths import CHECKOUT

PAGE = (CHECKOUT / "docs" / "images.md").read_text()
SCRIPT = (CHECKOUT / "deploy" / "images" / "build.sh").read_text()
DOCKERFILE = (CHECKOUT / "deploy" / "images" / "Dockerfile").read_text()


def first_cells(header: str) -> list[str]:
    """The names in the first column of the table whose first heading this is."""
    table = PAGE.partition(f"\n| {header} |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_every_image_has_a_row_with_its_process() -> None:
    [images] = re.findall(r'^ALL="(.*)"$', SCRIPT, re.MULTILINE)
    assert first_cells("Image") == images.split()
    for process in re.findall(r'^CMD \["python", "-m", "(.*)"\]$', DOCKERFILE, re.MULTILINE):
        assert f"`python -m {process}`" in PAGE


def test_every_variable_has_a_row() -> None:
    variables = set(re.findall(r"\b([A-Z][A-Z0-9_]+)=\$\{\1:-", SCRIPT))
    assert set(first_cells("Variable")) == variables


def test_bases_and_ports_are_those_of_the_dockerfiles() -> None:
    repo2docker = (CHECKOUT / "deploy" / "images" / "repo2docker" / "Dockerfile").read_text()
    for variable, text in (("BASE", DOCKERFILE), ("REPO2DOCKER_BASE", repo2docker)):
        [base] = re.findall(r"^ARG BASE=(.*)$", text, re.MULTILINE)
        assert f"| `{variable}` | `{base}` |" in PAGE
    for port in re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE):
        assert re.search(rf"port\s+{port}\b", PAGE)
