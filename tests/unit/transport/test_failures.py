from __future__ import annotations

import errno
import importlib
import pkgutil
import socket
import ssl
from collections.abc import Iterator
from types import ModuleType

import aiohttp
import httpx
import pytest
from aiohttp import http_exceptions, streams
from aiohttp.client_reqrep import ConnectionKey

from signalpost.core.outcomes import Failure, Phase
from signalpost.errors import EndpointError
from signalpost.transport.failures import FAILURES, UNSENT, describe, failed
from signalpost.transport.progress import AttemptFailed

# Not of the client's side, or no exception that an exchange can end with; each with its reason.
ELSEWHERE = {
    "aiohttp._websocket.models.WSHandshakeError": "websockets",
    "aiohttp._websocket.models.WebSocketError": "websockets",
    "aiohttp.compression_utils.TooManyMembersError": "decompression, which is off",
    "aiohttp.multipart.BadContentDispositionHeader": "a warning",
    "aiohttp.multipart.BadContentDispositionParam": "a warning",
    "aiohttp.payload.LookupError": "the registry of body types",
}
SERVER_SIDE = ("web", "pytest_plugin", "test_utils", "worker")
NO_KEY = ConnectionKey("host", 443, True, True, None, None, None)


def modules_of(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.split(".")[1].startswith(SERVER_SIDE) and "_main" not in found.name:
            yield importlib.import_module(found.name)


def exceptions_of(package: ModuleType) -> set[type[BaseException]]:
    return {
        value
        for module in modules_of(package)
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BaseException)
        and value.__module__.partition(".")[0] == package.__name__
    }


@pytest.mark.parametrize("package", [httpx, aiohttp])
def test_every_exception_of_the_http_libraries_has_a_meaning(package: ModuleType) -> None:
    """Each exception class that httpx and aiohttp define is named in the table itself."""
    found = exceptions_of(package)
    assert len(found) > 20, "the walk found too little to prove anything"
    unnamed = {f"{kind.__module__}.{kind.__qualname__}" for kind in found - FAILURES.keys()}
    assert unnamed - ELSEWHERE.keys() == set()


def test_no_exemption_outlives_its_class() -> None:
    """Each exempted name still exists, and is not in the table after all."""
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in exceptions_of(aiohttp)}
    named = {f"{kind.__module__}.{kind.__qualname__}" for kind in FAILURES}
    assert ELSEWHERE.keys() <= names
    assert not ELSEWHERE.keys() & named


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (TimeoutError(), Failure.TIMEOUT),
        (TimeoutError(errno.ETIMEDOUT, "x"), Failure.TIMEOUT),
        (aiohttp.SocketTimeoutError(), Failure.TIMEOUT),
        (httpx.ReadTimeout("x"), Failure.TIMEOUT),
        (ConnectionResetError(), Failure.RESET),
        (BrokenPipeError(), Failure.RESET),
        (aiohttp.ServerDisconnectedError(), Failure.RESET),
        (aiohttp.ClientOSError(errno.ECONNRESET, "x"), Failure.RESET),
        (streams.EofStream(), Failure.RESET),
        (httpx.ReadError("x"), Failure.RESET),
        (ssl.SSLError(1, "x"), Failure.RESET),
        (http_exceptions.BadStatusLine("x"), Failure.PROTOCOL),
        (aiohttp.ClientPayloadError("x"), Failure.PROTOCOL),
        (httpx.RemoteProtocolError("x"), Failure.PROTOCOL),
        (httpx.InvalidURL("x"), Failure.URL),
        (httpx.LocalProtocolError("x"), Failure.INTERNAL),
        (EndpointError(), Failure.URL),
        (RuntimeError("x"), Failure.INTERNAL),
        (ZeroDivisionError(), Failure.INTERNAL),
        (ValueError("x"), Failure.INTERNAL),
    ],
)
def test_an_error_after_the_first_byte_says_what_happened(
    error: Exception, failure: Failure
) -> None:
    """Once bytes were sent, an error is a timeout, a loss, a bad response or our own defect."""
    assert failed(error, Phase.SENT).failure is failure


class TestBeforeTheFirstByte:
    """Nothing was sent, so it must not read as a loss of what was sent."""

    @pytest.mark.parametrize(
        ("phase", "failure"),
        [
            (Phase.NONE, Failure.CONNECT),
            (Phase.DNS, Failure.DNS),
            (Phase.CONNECT, Failure.CONNECT),
            (Phase.TLS, Failure.TLS),
        ],
    )
    @pytest.mark.parametrize(
        "error",
        [
            aiohttp.ClientConnectorError(NO_KEY, OSError(errno.ECONNREFUSED, "x")),
            aiohttp.ServerDisconnectedError(),
            ConnectionResetError(errno.ECONNRESET, "x"),
            aiohttp.ClientConnectionError("Connector is closed."),
        ],
    )
    def test_a_lost_connection_is_a_failure_of_its_step(
        self, error: Exception, phase: Phase, failure: Failure
    ) -> None:
        """The step that had begun names the failure."""
        assert failed(error, phase).failure is failure

    def test_a_refused_certificate_is_a_failure_of_tls_at_any_step(self) -> None:
        """What OpenSSL refuses is a TLS failure also where the step was not noticed."""
        error = aiohttp.ClientConnectorCertificateError(NO_KEY, ssl.SSLCertVerificationError())
        assert failed(error, Phase.CONNECT).failure is Failure.TLS
        assert failed(ssl.SSLError(), Phase.TLS).failure is Failure.TLS


def test_a_judged_failure_stays_as_it_is() -> None:
    """What the transport has said already is not judged anew."""
    error = AttemptFailed(Failure.LEASE, "stopped")
    assert failed(error, Phase.SENT) is error


def test_what_httpx_raises_unsent_is_named() -> None:
    """The classes taken as proof that nothing was sent are failures before the first byte."""
    kinds = {FAILURES[kind] for kind in UNSENT}
    assert kinds <= {Failure.CONNECT, Failure.TIMEOUT, Failure.URL, Failure.INTERNAL}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ECONNREFUSED, "secret"), "connection refused"),
        (
            aiohttp.ClientConnectorError(NO_KEY, OSError(errno.EHOSTUNREACH, "secret")),
            "no route to host",
        ),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name or service not"),
        (http_exceptions.BadStatusLine("secret"), "BadStatusLine"),
        (EndpointError("the URL has no host"), "the URL has no host"),
        (ssl.SSLError(1, "secret"), "ssl error"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_the_words_on_an_error_are_ours_or_the_systems(error: Exception, words: str) -> None:
    """The description never repeats a message, which may quote the receiver or a URL."""
    assert words in describe(error)
    assert "secret" not in describe(error)
