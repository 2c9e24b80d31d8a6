"""Packets of git's protocols: each begins with its length, four hex digits that count themselves too.

Source: gitprotocol-common(5), "pkt-line Format", and gitprotocol-v2(5) for the delimiter.
"""

import re
from collections.abc import Iterator

FLUSH = b"0000"
DELIMITER = b"0001"
_LENGTH = re.compile(rb"[0-9a-fA-F]{4}")


def packet(content: bytes) -> bytes:
    """Return a packet with this content."""
    return b"%04x%s" % (len(content) + 4, content)


def packets(body: bytes) -> Iterator[bytes]:
    """Yield the packets in order, a flush as an empty one. Raise `ValueError` for a malformed or cut-off packet."""
    at = 0
    while at < len(body):
        if not _LENGTH.fullmatch(digits := body[at : at + 4]):
            raise ValueError(digits)

        length = int(digits, 16)
        if length == 0:
            yield b""
            at += 4
        elif length < 4 or at + length > len(body):
            raise ValueError(length)
        else:
            yield body[at + 4 : at + length]
            at += length
