"""Text of files that authors wrote, in whatever encoding their editor chose."""

import codecs
import re

_MARKS = (  # the marks of UTF-32 begin with those of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARATION = re.compile(rb"coding[:=]\s*([-\w.]+)")
_SAMPLE_BYTES = 4096


def decode(content: bytes) -> str:
    """Return the text of a file, without its byte order mark. No content is an error.

    A mark decides, then zero bytes that only UTF-16 has in a text, then a declaration in the first two lines (PEP
    263, which pip reads too), then UTF-8; what is none of these is taken for Windows-1252, and at last for Latin-1.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")

    if wide := _by_zero_bytes(content[:_SAMPLE_BYTES]):
        return content.decode(wide, "replace")

    for guess in filter(None, (_declared(content), "utf-8", "cp1252")):
        try:
            return content.decode(guess)
        except (LookupError, ValueError):
            continue
    return content.decode("latin-1")


def _by_zero_bytes(sample: bytes) -> str | None:
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if not even and not odd:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _declared(content: bytes) -> str | None:
    for line in content.split(b"\n", 2)[:2]:
        if line.startswith(b"#") and (match := _DECLARATION.search(line)):
            return match[1].decode("ascii", "replace")
    return None
