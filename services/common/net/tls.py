"""The certificates that servers on the network are checked against."""

import functools
import os
import ssl

import certifi


def roots_file() -> str | None:
    """Return the file of the roots: that of `SSL_CERT_FILE`, or the usual one. None if `SSL_CERT_DIR` has them."""
    return os.environ.get("SSL_CERT_FILE") or (None if os.environ.get("SSL_CERT_DIR") else certifi.where())


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Return a context with the roots of `roots_file`, or of `SSL_CERT_DIR`.

    It is cached, as reading the roots takes longer than a request: some 40 ms, in which other threads can run. Raise
    `OSError` if they can't be read.
    """
    file = roots_file()
    return ssl.create_default_context(cafile=file, capath=None if file else os.environ["SSL_CERT_DIR"])
