"""Whatever encoding an editor chose, the text is the same."""

import pytest

from services.builder.executors.process.session.plan.decoding import decode

TEXT = "# größe\nsix==1.16.0\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        b"\xff\xfe" + TEXT.encode("utf-16-le"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        b"\x00\x00\xfe\xff" + TEXT.encode("utf-32-be"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        TEXT.encode("cp1252"),
        TEXT.encode("latin-1"),
    ],
)
def test_text_is_the_same_in_every_encoding(content: bytes) -> None:
    assert decode(content) == TEXT


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("# -*- coding: koi8-r -*-\n# мир\n".encode("koi8-r"), "# -*- coding: koi8-r -*-\n# мир\n"),
        ("#!x\n# vim: coding=cp1251\n# мир\n".encode("cp1251"), "#!x\n# vim: coding=cp1251\n# мир\n"),
        ("# coding: no-such-thing\n# мир\n".encode(), "# coding: no-such-thing\n# мир\n"),
        ("a\nb\n# coding: cp1251\n# мир\n".encode(), "a\nb\n# coding: cp1251\n# мир\n"),
    ],
)
def test_a_declaration_in_the_first_two_lines_counts(content: bytes, text: str) -> None:
    assert decode(content) == text


@pytest.mark.parametrize("content", [b"", b"\xff", b"\x81\x8d", b"\xff\xfe\x00", b"\x00", bytes(range(256))])
def test_no_content_is_an_error(content: bytes) -> None:
    assert isinstance(decode(content), str)
