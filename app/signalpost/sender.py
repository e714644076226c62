"""One signed POST: what goes in is a parcel, what comes out is an answer, never an exception."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import cast

import httpx

from signalpost.core.outcomes import Answer, Failure, Phase
from signalpost.core.targets import read_target
from signalpost.transport.failures import UNSENT, failed
from signalpost.transport.opening import refuse_disguise
from signalpost.transport.progress import LastCheck, Progress

__all__ = ["EXCERPT_BYTES", "Gathered", "LastCheck", "Parcel", "Progress", "Sender"]

logger = logging.getLogger(__name__)

EXCERPT_BYTES = 4096
"""As much of the response's body is read and kept where nobody asks for more."""
_MAX_HEADER_CHARACTERS = 128

try:
    USER_AGENT = f"signalpost/{version('signalpost')}"
except PackageNotFoundError:  # run from a source tree that was never installed
    USER_AGENT = "signalpost"


@dataclass(frozen=True, slots=True)
class Parcel:
    """All that one attempt sends, and until when it may."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    timeout_seconds: float
    """For everything together, already clamped to the delivery's expiry."""
    last_check: LastCheck


@dataclass(slots=True)
class Gathered:
    """What has come back so far; kept also when the rest never comes."""

    status_code: int | None = None
    retry_after: str | None = None
    date: str | None = None
    excerpt: bytearray = field(default_factory=bytearray)


class Sender:
    """Sends parcels through a transport and tells what came back.

    Args:
        transport: `AiohttpTransport` in production, `httpx.MockTransport` in tests. One that does
            not report its progress is taken to have sent something unless it proves otherwise.
        monotonic: the clock that durations are taken from, in seconds.
        excerpt_bytes: as much of an answer's body is read and kept.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        excerpt_bytes: int = EXCERPT_BYTES,
    ) -> None:
        self._transport = transport
        self._excerpt_bytes = excerpt_bytes
        self._monotonic = monotonic
        self._exact = getattr(transport, "reports_progress", False)

    async def send(
        self,
        parcel: Parcel,
        progress: Progress | None = None,
        gathered: Gathered | None = None,
    ) -> Answer:
        """Make one attempt.

        Args:
            parcel: what to send.
            progress: filled in as the attempt goes; readable at any time, after a cancellation too.
            gathered: filled in likewise.

        Returns:
            What came back. Raises nothing but asyncio.CancelledError, after which `progress` tells
            how far the attempt had got, and `gathered` what had come back.
        """
        progress = progress or Progress()
        progress.last_check = parcel.last_check
        gathered = gathered or Gathered()
        failure, detail = None, ""
        started = self._monotonic()
        try:
            if not parcel.timeout_seconds > 0:
                failure, detail = Failure.EXPIRED, "no time was left"
            else:
                async with asyncio.timeout(parcel.timeout_seconds):
                    await self._exchange(parcel, progress, gathered)
        except Exception as error:  # noqa: BLE001 - every surprise becomes an answer; see _report
            if not self._exact and not isinstance(error, UNSENT):
                progress.advance(Phase.SENT)
            reason = failed(error, progress.phase)
            failure, detail = reason.failure, reason.detail
            if failure is Failure.INTERNAL:
                _report(error, parcel)
        return Answer(
            phase=progress.phase,
            duration_seconds=self._monotonic() - started,
            status_code=gathered.status_code,
            failure=failure,
            detail=detail,
            retry_after=gathered.retry_after,
            date=gathered.date,
            excerpt=bytes(gathered.excerpt[: self._excerpt_bytes]),
        )

    async def aclose(self) -> None:
        """Drop the transport's connections."""
        await self._transport.aclose()

    async def _exchange(self, parcel: Parcel, progress: Progress, gathered: Gathered) -> None:
        response = await self._transport.handle_async_request(_request(parcel, progress))
        # The stream itself: the response's own iterators decode, and count what they decode.
        stream = cast("httpx.AsyncByteStream", response.stream)
        try:
            progress.advance(Phase.HEADERS)
            gathered.status_code = response.status_code
            headers = {name.lower(): value for name, value in response.headers.raw}
            gathered.retry_after = _readable(headers.get(b"retry-after"))
            gathered.date = _readable(headers.get(b"date"))
            progress.advance(Phase.BODY)
            async for chunk in stream:
                gathered.excerpt += chunk
                if len(gathered.excerpt) >= self._excerpt_bytes:
                    break
        finally:
            await stream.aclose()


@lru_cache(maxsize=4096)
def _destination(url: str) -> tuple[httpx.URL, bytes, Mapping[str, str]]:
    """The URL to connect to, the exact request target, and the headers that the URL asks for."""
    target = read_target(url)
    host = f"[{target.host}]" if ":" in target.host else target.host
    extra = {"Host": target.authority, "User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    if target.authorization is not None:
        extra["Authorization"] = target.authorization
    destination = httpx.URL(f"{target.scheme}://{host}:{target.port}{target.request_target}")
    return destination, target.request_target.encode("ascii"), extra


def _request(parcel: Parcel, progress: Progress) -> httpx.Request:
    # Before httpx, which takes some of these for invalid URLs.
    refuse_disguise(read_target(parcel.url).host, progress)
    url, target, extra = _destination(parcel.url)
    # As a stream: from bytes, httpx would build the headers three times over to add its own.
    return httpx.Request(
        "POST",
        url,
        headers={**extra, **parcel.headers, "Content-Length": str(len(parcel.body))},
        stream=httpx.ByteStream(parcel.body),
        extensions={"signalpost": progress, "target": target},
    )


def _readable(value: bytes | None) -> str | None:
    if value is None or not value.isascii():
        return None
    text = value[:_MAX_HEADER_CHARACTERS].decode("ascii").strip()
    return text if text.isprintable() else None


def _report(error: Exception, parcel: Parcel) -> None:
    # The place, not the message nor the values: those may be private.
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"
    delivery = parcel.headers.get("X-Idempotency-Key", "unknown")
    logger.error(
        "an attempt met an unforeseen error; this is a defect of signalpost, please report it "
        "delivery=%s error=%s place=%s",
        delivery,
        type(error).__name__,
        place,
    )
