"""ASGI as it comes: a body within bounds, headers, the URL that was meant, an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from signalpost.core.targets import read_target
from signalpost.errors import ConfigurationError, EndpointError, SignatureError

__all__ = [
    "BodyTooLarge",
    "Disconnected",
    "Message",
    "PublicUrl",
    "Receive",
    "Scope",
    "Send",
    "answer",
    "headers_of",
    "lifespan",
    "read_body",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class BodyTooLarge(Exception):
    """More bytes than the receiver takes."""


class Disconnected(Exception):
    """The sender went away in the middle of its request."""


def headers_of(scope: Scope) -> dict[str, str]:
    """The request's headers with lower-case names; repeated ones joined (RFC 9110, section 5.3)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def read_body(
    receive: Receive, headers: Mapping[str, str], *, max_bytes: int, timeout_seconds: float
) -> bytes:
    """The whole body, never more than `max_bytes` of it in memory.

    Raises BodyTooLarge as soon as that is known, Disconnected, and TimeoutError.
    """
    length = headers.get("content-length", "")
    if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > max_bytes):
        raise BodyTooLarge
    body = bytearray()
    async with asyncio.timeout(timeout_seconds):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            body += message.get("body", b"")
            if len(body) > max_bytes:
                raise BodyTooLarge
            if not message.get("more_body", False):
                return bytes(body)


class PublicUrl:
    """The URL that producers post to, or a base of it, from the receiver's own configuration.

    It is read as the sender reads an endpoint's URL, so that what is verified is what was signed.
    ConfigurationError where no request could come to it.
    """

    def __init__(self, url: str) -> None:
        try:
            target = read_target(url)
        except EndpointError as error:
            raise ConfigurationError(f"public_url: {error}") from None
        self._origin = f"{target.scheme}://{target.authority}"
        self._path = target.raw_path
        self._prefix = target.raw_path.rstrip("/")

    def of(self, scope: Scope) -> str:
        """The URL that a request was signed for, with the query as received.

        Authority and path come from the configuration: what a proxy stripped from the path's front
        is put back. SignatureError where the request names no path (RFC 9112, section 3.2.1):
        `.evil.example/` behind the authority would make another authority of it.
        """
        raw_path = scope.get("raw_path") or scope["path"].encode()
        received = raw_path.decode("latin-1").partition("?")[0]
        if received and not received.startswith("/"):
            raise SignatureError("the request's target must be a path")
        if self._prefix and (received in ("", "/") or self._prefix.endswith(received)):
            path = self._path
        elif received == self._prefix or received.startswith(self._prefix + "/"):
            path = received
        else:
            path = self._prefix + received
        query = scope.get("query_string", b"").decode("latin-1")
        return f"{self._origin}{path}" + (f"?{query}" if query else "")


async def answer(
    send: Send, status: int, content: Mapping[str, Any], headers: Mapping[str, str]
) -> None:
    """Send a JSON answer."""
    body = json.dumps(content, separators=(",", ":")).encode()
    fields = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **headers,
    }
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive: Receive, send: Send) -> None:
    """Say yes to a server that asks whether the app is up, and when it goes down."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
