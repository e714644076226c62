"""A small HTTP server in a thread: `/metrics` for Prometheus, `/healthz` for whoever restarts."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from socket import AF_INET, AF_INET6

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from signalpost.errors import SettingError

__all__ = ["MetricsServer"]

REQUEST_SECONDS = 5.0


class MetricsServer:
    """Serves a registry, and what `troubles` says, until `stop`.

    Args:
        registry: what `/metrics` shows.
        troubles: why this process is not well, a line each; asked at every look at `/healthz`,
            which answers 200 where there is none and 503 otherwise.
        address: of this machine, to listen on.
        port: to listen on; 0 is any free one, `port` tells which.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        troubles: Callable[[], Sequence[str]],
        *,
        address: str,
        port: int,
    ) -> None:
        self._registry = registry
        self._troubles = troubles
        self._address = address
        self.port = port
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Listen. Raises SettingError where the port cannot be had."""
        handler = type("Handler", (_Handler,), {"registry": self._registry})
        handler.troubles = staticmethod(self._troubles)  # type: ignore[attr-defined] # made above
        kind = type("Server", (_Server,), {"address_family": _family(self._address)})
        try:
            server: ThreadingHTTPServer = kind((self._address, self.port), handler)
        except OSError as error:
            raise SettingError(self._why(error)) from None
        self._server = server
        self.port = int(server.server_address[1])
        threading.Thread(
            target=server.serve_forever, name="signalpost-metrics", daemon=True
        ).start()

    def stop(self) -> None:
        """Listen no more; a request under way is not waited for."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def _why(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            return (
                f"the metrics port {self.port} is in use; choose another METRICS_PORT, or give "
                "each worker of this machine a PROCESS_INDEX of its own"
            )
        if error.errno == errno.EADDRNOTAVAIL:
            return f"METRICS_ADDRESS {self._address} is no address of this machine"
        return f"the metrics port {self.port} cannot be listened on: {error.strerror}"


def _family(address: str) -> int:
    return AF_INET6 if ip_address(address).version == 6 else AF_INET


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that went away."""


class _Handler(BaseHTTPRequestHandler):
    registry: CollectorRegistry
    troubles: Callable[[], Sequence[str]]

    server_version = "signalpost"
    sys_version = ""
    # A client that sends nothing holds its thread no longer.
    timeout = REQUEST_SECONDS

    def do_GET(self) -> None:
        """Answer one of the two pages."""
        match self.path.partition("?")[0]:
            case "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, content_type, encode(self.registry))
            case "/healthz":
                troubles = list(self.troubles())
                page = json.dumps({"healthy": not troubles, "troubles": troubles}) + "\n"
                self._answer(503 if troubles else 200, "application/json", page.encode())
            case _:
                self._answer(404, "text/plain", b"/metrics and /healthz are here\n")

    def _answer(self, status: int, content_type: str, page: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing: a line for each scrape helps nobody."""
