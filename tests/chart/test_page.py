"""The values that docs/helm.md shows are values of the chart."""

import re

import pytest
import yaml

from tests.chart.cases import CHART
from tests.chart.conftest import FilesOf
from tests.support.helm import Helm
from tests.support.paths import CHECKOUT

PAGE = (CHECKOUT / "docs" / "helm.md").read_text()
BLOCKS = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
OF_OTHERS = {"rules"}
"""What is at the top of a block for another chart."""
VALUES = [block for block in BLOCKS if not OF_OTHERS & set(block)]


def test_the_page_shows_values() -> None:
    assert len(VALUES) >= 5
    assert len(BLOCKS) == len(VALUES) + 1


@pytest.mark.parametrize("number", range(len(VALUES)))
def test_what_the_page_shows_renders(
    number: int, helm: Helm, files_of: FilesOf, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shown = tmp_path_factory.mktemp("page") / "values.yaml"
    shown.write_text(yaml.safe_dump({"publicUrl": "https://a.example.org", "serversUrl": "https://b.example.org"}))
    block = shown.with_name("block.yaml")
    block.write_text(yaml.safe_dump(VALUES[number]))
    rendered = helm.template(CHART, values_files=[*files_of("defaults"), shown, block])
    plain = helm.template(CHART, values_files=[*files_of("defaults"), shown])
    assert rendered != plain, "it changes something"
