"""`512M` is understood in one way everywhere."""

import pytest

from services.common.service.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("1024", 1024), ("512M", 512 * 2**20), ("2G", 2 * 2**30), ("2Gi", 2 * 2**30), ("1.5 T", 3 * 2**39),
        ("64kb", 64 * 2**10), ("64KiB", 64 * 2**10), (" 7B ", 7),
    ],
)  # fmt: skip
def test_units_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "size"), [("2G", 2 * 10**9), ("2Gi", 2 * 2**30), ("1.5k", 1500)])
def test_units_without_an_i_are_decimal_if_the_caller_asks_for_it(text: str, size: int) -> None:
    assert parse_size(text, base=1000) == size


@pytest.mark.parametrize("text", ["", "M", "-1M", "1,5G", "512X", "5i", "٣M", "1e3"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)
