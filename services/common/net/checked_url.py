"""Reading of an address that a user typed, before anything is looked up or connected to."""

import httpx

from services.common.models.errors import BinderyError
from services.common.net.hosts import plain_host
from services.common.service.redaction import quotable

SCHEMES = ("http", "https")
MAX_URL_LENGTH = 4096

NO_HOST = "names no host: that is an address, or a name of letters, digits, dashes and underscores between its dots."
NO_USER = (
    "An address must not hold a password or a user name: anyone who sees the link reads it, and can use it if it is a "
    "token. Leave out what stands before the @, and revoke a token that was there."
)


def checked_url(text: str) -> httpx.URL:
    """Return the parsed form of an address that a user typed.

    Raise `BinderyError("bad_spec")` for a scheme other than http and https, a user name or password, an ambiguous host
    (such as `0x7f.1` or `%61.example`), and a text that is not a URL at all.
    """
    quoted = quotable(text)
    if len(text) > MAX_URL_LENGTH or not text.isprintable() or " " in text or "\\" in text:
        raise BinderyError("bad_spec", f"{quoted!r} is not an address.")

    try:
        url = httpx.URL(text)
        port = url.port
    except (httpx.InvalidURL, ValueError) as error:
        raise BinderyError("bad_spec", f"{quoted} is not an address.") from error

    if url.scheme not in SCHEMES:
        raise BinderyError("bad_spec", f"{quoted} is not an http or https address.")
    if url.userinfo:
        raise BinderyError("bad_spec", NO_USER)

    if (host := plain_host(url.raw_host.decode("ascii"))) is None:
        raise BinderyError("bad_spec", f"{quoted} {NO_HOST}")
    if port is not None and not 0 < port < 65536:
        raise BinderyError("bad_spec", f"{quoted} names no port.")

    return url.copy_with(userinfo=b"", host=host, fragment=None)
