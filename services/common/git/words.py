"""Numbers and names as the lines of a fetch have them."""


def size_text(size_bytes: int) -> str:
    """Return a size in MiB, or in KiB if it is less than one: `12 MiB`."""
    return f"{size_bytes // 2**20} MiB" if size_bytes >= 2**20 else f"{-(-size_bytes // 2**10)} KiB"


def counted(number: int, noun: str) -> str:
    """Return the number with its noun: `1 file`, `2 files`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """Return `text` with a question mark for each character that is not printable, such as a terminal escape."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
