"""Text of strangers as lines of a log and messages have it."""


def printable(text: str) -> str:
    """Return `text` with a question mark for each character that is not printable, such as a terminal escape."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
