"""Times as other programs write them."""

from datetime import UTC, datetime


def epoch_seconds(text: object) -> int:
    """Return the Unix seconds, without their fraction, of a time in ISO 8601, which is UTC if it does not say.

    Raise `ValueError` for any other text, and for what is none.
    """
    time = datetime.fromisoformat(text if isinstance(text, str) else "")
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
