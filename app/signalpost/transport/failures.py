"""What each exception of the HTTP libraries means for an attempt.

Every class is named, also those that cannot occur here, so that an upgrade which brings a new one
fails a test (tests/unit/test_failures.py) instead of a delivery. A class that is looked up and not
found counts as the nearest class above it that is.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from os import strerror

import aiohttp
import httpx
from aiohttp import client_exceptions, http_exceptions, streams

from signalpost.core.outcomes import Failure, Phase
from signalpost.errors import EndpointError
from signalpost.transport.progress import AttemptFailed

_BY_FAILURE: Mapping[Failure, tuple[type[Exception], ...]] = {
    Failure.URL: (
        EndpointError,
        httpx.InvalidURL,
        httpx.UnsupportedProtocol,
        aiohttp.InvalidURL,
        aiohttp.InvalidUrlClientError,
        aiohttp.NonHttpUrlClientError,
    ),
    Failure.DNS: (socket.gaierror, aiohttp.ClientConnectorDNSError),
    Failure.CONNECT: (
        httpx.ConnectError,
        httpx.ProxyError,
        aiohttp.ClientConnectorError,
        aiohttp.ClientProxyConnectionError,
        client_exceptions.UnixClientConnectorError,
    ),
    Failure.TLS: (
        ssl.SSLError,
        aiohttp.ClientSSLError,
        aiohttp.ClientConnectorSSLError,
        aiohttp.ClientConnectorCertificateError,
        aiohttp.ServerFingerprintMismatch,
    ),
    # On Python 3.11 a TimeoutError is an OSError: the look-up goes from the class upwards, so it is
    # met first.
    Failure.TIMEOUT: (
        TimeoutError,
        httpx.TimeoutException,
        httpx.ConnectTimeout,
        httpx.PoolTimeout,
        httpx.ReadTimeout,
        httpx.WriteTimeout,
        aiohttp.ServerTimeoutError,
        aiohttp.ConnectionTimeoutError,
        aiohttp.SocketTimeoutError,
    ),
    Failure.RESET: (
        OSError,
        httpx.TransportError,
        httpx.RequestError,
        httpx.HTTPError,
        httpx.NetworkError,
        httpx.ReadError,
        httpx.WriteError,
        httpx.CloseError,
        aiohttp.ClientError,
        aiohttp.ClientConnectionError,
        aiohttp.ClientConnectionResetError,
        aiohttp.ClientOSError,
        aiohttp.ServerConnectionError,
        aiohttp.ServerDisconnectedError,
        aiohttp.UploadAbortedError,
        streams.EofStream,
    ),
    Failure.PROTOCOL: (
        httpx.ProtocolError,
        httpx.RemoteProtocolError,
        httpx.DecodingError,
        httpx.TooManyRedirects,
        httpx.HTTPStatusError,
        aiohttp.ClientResponseError,
        aiohttp.ClientPayloadError,
        aiohttp.ClientHttpProxyError,
        aiohttp.ContentTypeError,
        aiohttp.TooManyRedirects,
        aiohttp.RedirectClientError,
        aiohttp.InvalidUrlRedirectClientError,
        aiohttp.NonHttpUrlRedirectClientError,
        aiohttp.WSServerHandshakeError,
        http_exceptions.HttpProcessingError,
        http_exceptions.BadHttpMessage,
        http_exceptions.HttpBadRequest,
        http_exceptions.BadHttpMethod,
        http_exceptions.BadStatusLine,
        http_exceptions.InvalidHeader,
        http_exceptions.InvalidURLError,
        http_exceptions.LineTooLong,
        http_exceptions.PayloadEncodingError,
        http_exceptions.ContentEncodingError,
        http_exceptions.ContentLengthError,
        http_exceptions.DecompressSizeError,
        http_exceptions.TransferEncodingError,
    ),
    # Ours to mend: a malformed header of our own, a stream used twice.
    Failure.INTERNAL: (
        httpx.LocalProtocolError,
        httpx.CookieConflict,
        httpx.StreamError,
        httpx.StreamConsumed,
        httpx.StreamClosed,
        httpx.RequestNotRead,
        httpx.ResponseNotRead,
        aiohttp.WSMessageTypeError,
    ),
}

FAILURES: Mapping[type[BaseException], Failure] = {
    kind: failure for failure, kinds in _BY_FAILURE.items() for kind in kinds
}
"""Exception class to what it means, before the phase has its say."""

UNSENT = (
    EndpointError,
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.InvalidURL,
    httpx.LocalProtocolError,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
"""What is raised, by httpx or before it, only while no byte of the request has left."""

_BEFORE_SENDING = {
    Phase.NONE: Failure.CONNECT,
    Phase.DNS: Failure.DNS,
    Phase.CONNECT: Failure.CONNECT,
    Phase.TLS: Failure.TLS,
}


def failed(error: Exception, phase: Phase) -> AttemptFailed:
    """What `error` means for an attempt that had come as far as `phase`.

    The same broken connection is a failure to connect before the first byte, and a lost connection
    after it. A class unknown here is an internal error.
    """
    if isinstance(error, AttemptFailed):
        return error
    failure = next((FAILURES[kind] for kind in type(error).__mro__ if kind in FAILURES), None)
    if failure is None:
        return AttemptFailed(Failure.INTERNAL, type(error).__name__)
    if failure in (Failure.CONNECT, Failure.TLS, Failure.RESET):
        early = _BEFORE_SENDING.get(phase, Failure.RESET)
        failure = Failure.TLS if failure is Failure.TLS and not phase.wrote else early
    return AttemptFailed(failure, describe(error))


def describe(error: BaseException) -> str:
    """A few words on `error`: the system's or OpenSSL's own, else the class; never the message.

    The message may quote the receiver's bytes or a URL with its password.
    """
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, EndpointError):
        return str(cause)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate: {getattr(cause, 'verify_message', 'not verified')}"
    if isinstance(cause, ssl.SSLError):
        return (getattr(cause, "reason", None) or "ssl error").replace("_", " ").lower()
    if isinstance(cause, socket.gaierror):
        return str(cause.strerror).lower()
    if isinstance(cause, OSError) and cause.errno is not None:
        return strerror(cause.errno).lower()
    return type(cause).__name__
