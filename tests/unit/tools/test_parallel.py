"""How tests are spread over workers."""

from tests.support.parallel import LONGEST
from tests.support.paths import CHECKOUT


def test_the_files_that_begin_first_are_there() -> None:
    assert [file for file in LONGEST if not (CHECKOUT / file).is_file()] == []
