"""What is a host, and how it is written."""

import pytest

from services.common.net.hosts import is_literal, plain_host


@pytest.mark.parametrize(
    ("text", "plain", "literal"),
    [
        ("Example.ORG", "example.org", False),
        ("example.org.", "example.org", False),
        ("localhost", "localhost", False),
        ("a_b.example", "a_b.example", False),
        ("_dmarc.example", "_dmarc.example", False),
        ("3com.example", "3com.example", False),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", False),
        ("a" * 63, "a" * 63, False),
        ("140.82.121.3", "140.82.121.3", True),
        ("140.82.121.3.", "140.82.121.3", True),
        ("2606:50C0:8000:0::153", "2606:50c0:8000::153", True),
        ("::1", "::1", True),
    ],
)
def test_one_host_is_written_in_one_way(text: str, plain: str, literal: bool) -> None:
    assert plain_host(text) == plain
    assert is_literal(plain) is literal


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "-a", "a-", "a.-b", "%61", "a%", "fe80::1%eth0", "::1%1", "a@b", "a:b", "1.2.3", "127.1", "0x7f.1",
     "01.2.3.4", "1.2.3.256", "2130706433", "a b", "a/b", "b\u00fccher", "a" * 64, ".".join(["a" * 60] * 5), "a\n"],
)  # fmt: skip
def test_a_host_that_others_could_read_differently_is_refused(text: str) -> None:
    assert plain_host(text) is None
