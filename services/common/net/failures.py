"""Why an HTTP request got no reply, in words: for logs, health reports and the people whose launch it was."""

import os
import socket
import ssl

import aiohttp


def failure_reason(error: Exception, timeout: aiohttp.ClientTimeout) -> str:
    """Return the end of the sentence "it can't be asked: …" for an error of aiohttp or the system.

    `timeout` is that of the request. A failure that is not foreseen is named by its class.
    """
    # aiohttp's failures of TLS and of names are failures to connect as well, and have error numbers that mislead.
    match error:
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(error.certificate_error, "verify_message", "") or "it does not match"
            return f"its certificate is not trusted ({why.rstrip('.')})"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return "it does not speak TLS as we do"

        case aiohttp.ClientConnectorDNSError(errno=socket.EAI_AGAIN) | socket.gaierror(errno=socket.EAI_AGAIN):
            return "its name can't be looked up at the moment"
        case aiohttp.ClientConnectorDNSError() | socket.gaierror():
            return "its name is not known"
        case aiohttp.TooManyRedirects():
            return "it redirects in circles"
        case aiohttp.InvalidURL() | UnicodeError():
            return "its address, or one that it names, is not a URL"

        case aiohttp.ConnectionTimeoutError():
            return f"no connection within {timeout.sock_connect:g} s"
        case aiohttp.SocketTimeoutError():
            return f"it sent nothing for {timeout.sock_read:g} s"
        case TimeoutError(errno=None) if timeout.total:
            return f"no answer within {timeout.total:g} s"

        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | ConnectionResetError():
            return "it broke off the connection"
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number).lower()
        case aiohttp.ClientResponseError():
            return "it does not speak HTTP as we do"

    return type(error).__name__
