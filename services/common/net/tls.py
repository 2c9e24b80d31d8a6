"""The certificates that servers on the network are checked against."""

import functools
import ssl

import httpx


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Return a context with the usual roots, or those of `SSL_CERT_FILE` or `SSL_CERT_DIR`.

    It is cached, as reading the roots takes longer than a request: some 40 ms, in which other threads can run.
    """
    return httpx.create_ssl_context(trust_env=True)
