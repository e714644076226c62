"""A TCP proxy that breaks a connection at a chosen moment, between a program and its server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

__all__ = ["Proxy"]


class Proxy:
    """Forwards bytes both ways until `watch` says otherwise.

    `watch` gets what the client sends, as it comes, and returns what becomes of it: "pass" it on,
    "cut" (it is lost, and the connection with it), "pass and cut" (it arrives, its answer does
    not), "hold" (it is lost, the connection stays open and says nothing any more).
    """

    def __init__(self, url: str, watch: Callable[[bytes], str]) -> None:
        self._parts = urlsplit(url)
        self._watch = watch
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._accepted = self._deserted = 0
        self.cuts = 0

    @property
    def url(self) -> str:
        """The server's address by way of the proxy."""
        port = self._listener.getsockname()[1]
        user, _, _ = self._parts.netloc.rpartition("@")
        return self._parts._replace(netloc=f"{user}@127.0.0.1:{port}").geturl()

    def desert(self) -> None:
        """What is open now stays open and carries nothing any more, as after a lost machine."""
        self._deserted = self._accepted

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for one in self._sockets:
            self._end(one)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((self._parts.hostname, self._parts.port))
                self._sockets += [client, server]
                self._accepted += 1
                for ends in ((client, server, True), (server, client, False)):
                    arguments = (*ends, self._accepted)
                    threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(
        self, source: socket.socket, target: socket.socket, from_client: bool, number: int
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if number <= self._deserted:
                    continue
                fate = self._watch(data) if from_client else "pass"
                if fate == "hold":
                    continue
                if fate == "pass and cut":
                    # Closed towards the client first, so that no answer can get through.
                    self._end(source)
                if fate in ("pass", "pass and cut"):
                    target.sendall(data)
                if fate != "pass":
                    self.cuts += 1
                    break
        self._end(source)
        self._end(target)

    @staticmethod
    def _end(one: socket.socket) -> None:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
