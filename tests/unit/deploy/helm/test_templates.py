"""What the chart's templates say of each other."""

import re

from tests.support.helm_release import CHART

TEXT = "".join(path.read_text() for path in sorted((CHART / "templates").rglob("*")) if path.is_file())


def test_what_a_template_includes_is_there_and_nothing_is_there_for_nobody() -> None:
    """Those for the cluster are rendered where there is one alone."""
    defined = set(re.findall(r'define "([\w.]+)"', TEXT))
    included = set(re.findall(r'include "([\w.]+)"', TEXT))
    patterns = re.findall(r'printf "(bindery\.[\w.]*)%s"', TEXT)
    by_pattern = {name for name in defined if any(name.startswith(pattern) for pattern in patterns)}
    assert included - defined == set()
    assert defined - included - by_pattern == set()
