"""A section of the changelog as the text of a release page."""

from tests.unit.tools.release.conftest import Checkout
from tools.release.changelog import notes, section

WRAPPED = """\
The first paragraph
of two lines.

### Added
Text below a heading,
wrapped.

- An item
  of two lines.
- Another one.
1. A numbered
   one.

| a | b |
| --- | --- |

```sh
make up
make stop
```
After the code,
text.
"""
UNWRAPPED = """\
The first paragraph of two lines.

### Added
Text below a heading, wrapped.

- An item of two lines.
- Another one.
1. A numbered one.

| a | b |
| --- | --- |

```sh
make up
make stop
```
After the code, text.
"""


def test_paragraphs_and_items_become_lines_and_code_stays_as_it_is() -> None:
    assert notes(WRAPPED) == UNWRAPPED


def test_links_to_files_lead_to_the_files_of_the_release(checkout: Checkout) -> None:
    text = notes(section(checkout.folder, "0.2.0").text, "https://forge.example/o/r/blob/v0.2.0/")
    assert text == (
        "### Added\n\n- A thing that the [page](https://forge.example/o/r/blob/v0.2.0/docs/page.md#there) explains, "
        "and [another](https://example.org/x) as well.\n"
    )


def test_a_section_ends_where_the_next_begins(checkout: Checkout) -> None:
    assert section(checkout.folder, "0.1.0").text == "The first release."
    assert "The first release" not in section(checkout.folder, "0.2.0").text
