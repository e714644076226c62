"""The receiver kit: a small ASGI app that verifies, dedupes, and hands each signal over once."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Generic
from uuid import UUID

from signalpost.core.signals import Signal
from signalpost.core.signing import Profile, Verified, secret_bytes, verify
from signalpost.core.testsignal import TEST_ANSWER, is_test
from signalpost.errors import ConfigurationError, SignalError, SignatureError
from signalpost.receiver.answers import (
    Answer,
    answer_of,
    come_again,
    content_of,
    place,
    refusal,
    rejected,
)
from signalpost.receiver.book import Book, Busy, Connected, Entry, Reply, Unavailable
from signalpost.receiver.requests import (
    BodyTooLarge,
    Disconnected,
    PublicUrl,
    Receive,
    Scope,
    Send,
    answer,
    headers_of,
    lifespan,
    read_body,
)
from signalpost.receiver.verdicts import Handler, Received, Refused, Seen, Verdict

__all__ = ["Receiver"]

logger = logging.getLogger(__name__)

MAX_TOLERANCE_SECONDS = 3600
"""Far below the time for which a book keeps its keys, or an old request could be a new one."""


class Receiver(Generic[Connected]):
    """An ASGI app that verifies, remembers and answers; mount it under any path.

    201 accepted, 200 duplicate, 503 with Retry-After for a duplicate of one still under way, 401
    unverified, 413 too large, 422 bad fields, past the expiry or out of order, 500 where the
    handler fails. What is refused consumes no key.

    Args:
        secrets: those that are valid now; several while one is being replaced.
        public_url: the URL that the producer posts to, or a base of it; authority and path are
            never taken from the request.
        book: where deliveries are remembered.
        handler: acts on each signal, once; without one they are only remembered.
        ordering_key: what the producer orders by, where the endpoint is ordered: the instrument,
            unless told otherwise.
        profile: the one signature format to trust.
        max_body_bytes: more is refused unread.
        body_timeout_seconds: the longest a sender may take over its body.
        tolerance_seconds: how far a signature's time may be off, at most an hour.
        clock: the receiver's time, aware.
        observer: told of every request after its verdict.

    Raises errors.SecretError and errors.ConfigurationError for arguments that cannot work.
    """

    def __init__(
        self,
        *,
        secrets: Sequence[str],
        public_url: str,
        book: Book[Connected],
        handler: Handler[Connected] | None = None,
        ordering_key: Callable[[Signal], str] = lambda signal: signal.instrument,
        profile: Profile = Profile.RFC9421,
        max_body_bytes: int = 65536,
        body_timeout_seconds: float = 30,
        tolerance_seconds: float = 300,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        observer: Callable[[Seen], None] | None = None,
    ) -> None:
        if not secrets:
            raise ConfigurationError("a receiver needs the endpoint's secret")
        if not 0 < tolerance_seconds <= MAX_TOLERANCE_SECONDS:
            raise ConfigurationError(
                f"tolerance_seconds must be above 0 and at most {MAX_TOLERANCE_SECONDS}"
            )
        for secret in secrets:
            secret_bytes(secret)
        self._secrets = tuple(secrets)
        self._public_url = PublicUrl(public_url)
        self._book = book
        self._handler = handler
        self._ordering_key = ordering_key
        self._profile = profile
        self._max_body_bytes = max_body_bytes
        self._body_timeout_seconds = body_timeout_seconds
        self._tolerance_seconds = tolerance_seconds
        self._clock = clock
        self._observer = observer
        self.counts: Counter[Verdict] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3)."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["method"] != "POST":
            content = content_of(None, rejected("only POST"), self._clock())
            await answer(send, 405, content, {"allow": "POST"})
        else:
            try:
                result = await self._serve(scope, receive)
            except Disconnected:
                return
            self._tell(result.seen)
            content = content_of(result.seen.signal_id, result.reply, self._clock())
            await answer(send, result.seen.status_code, content, result.headers)

    async def _serve(self, scope: Scope, receive: Receive) -> Answer:
        headers = headers_of(scope)
        try:
            body = await read_body(
                receive,
                headers,
                max_bytes=self._max_body_bytes,
                timeout_seconds=self._body_timeout_seconds,
            )
        except BodyTooLarge:
            detail = f"the body has more than {self._max_body_bytes} bytes"
            return refusal(Verdict.TOO_LARGE, 413, detail)
        except TimeoutError:
            return refusal(Verdict.UNREADABLE, 408, "the body did not arrive in time")
        try:
            verified = self._verify(scope, headers, body)
        except SignatureError as error:
            return refusal(Verdict.UNVERIFIED, 401, str(error))
        if is_test(body):
            return Answer(Seen(Verdict.TEST, 200, TEST_ANSWER), Reply("received", TEST_ANSWER))
        try:
            received = self._read(headers, body, verified)
        except SignalError as error:
            return refusal(Verdict.REFUSED, 422, "the signal breaks a rule", *error.problems)
        return await self._enter(received, body)

    def _verify(self, scope: Scope, headers: Mapping[str, str], body: bytes) -> Verified:
        return verify(
            method=scope["method"],
            headers=headers,
            body=body,
            url=self._public_url.of(scope),
            secrets=self._secrets,
            profile=self._profile,
            now=self._clock(),
            tolerance_seconds=self._tolerance_seconds,
        )

    def _read(self, headers: Mapping[str, str], body: bytes, verified: Verified) -> Received:
        key = verified.delivery_id or headers.get("x-idempotency-key", "")
        try:
            delivery_id = UUID(key)
        except ValueError:
            raise SignalError("X-Idempotency-Key: must be a UUID") from None
        signal = Signal.from_json(body)
        if signal.id is None:
            raise SignalError("id: is required")
        return Received(delivery_id, signal, verified, self._clock())

    async def _enter(self, received: Received, body: bytes) -> Answer:
        entry = Entry(
            delivery_id=str(received.delivery_id),
            body_sha256=hashlib.sha256(body).digest(),
            signal_id=str(received.signal.id),
            received_at=received.received_at,
            ordering_key=self._ordering_key(received.signal),
            attempt=received.verified.attempt,
            sequence=received.verified.sequence,
            by_body=self._profile is Profile.CANONICAL,
        )

        def effect(connection: Connected, missed: int) -> Reply:
            if self._is_over(received):
                raise _Expired("its expiry has passed")
            given = replace(received, missed=missed)
            reply = self._handler(connection, given) if self._handler else None
            return reply or Reply()

        try:
            marked = await self._book.enter(entry, effect)
        except Busy:
            return come_again(
                received, Verdict.IN_PROGRESS, "the same delivery is under way; ask again"
            )
        except Unavailable as error:
            logger.error("the book's database cannot be reached: %s", error)
            return come_again(received, Verdict.UNAVAILABLE, "not now; ask again")
        except Refused as error:
            verdict = Verdict.EXPIRED if isinstance(error, _Expired) else Verdict.REFUSED
            result = Seen.of(received, verdict, 422, error.message)
            return Answer(result, rejected(error.message, *error.errors))
        except Exception as error:  # noqa: BLE001  whatever the handler raises, the sender gets an answer
            # The handler's own words may quote the signal, so only the kind of error is told.
            detail = f"the handler failed: {type(error).__name__}{place(error)}"
            return Answer(
                Seen.of(received, Verdict.FAILED, 500, detail), rejected("the handler failed")
            )
        return answer_of(received, marked)

    def _is_over(self, received: Received) -> bool:
        # The signed header says how long this delivery lives, a replay's new life included; only
        # where the profile does not cover it is the body's own expiry what counts.
        if self._profile is Profile.RFC9421:
            expires_at = received.verified.expires_at
        else:
            expires_at = received.signal.expires_at
        return expires_at is not None and self._clock() >= expires_at

    def _tell(self, seen: Seen) -> None:
        self.counts[seen.verdict] += 1
        logger.info(
            "received delivery=%s signal=%s attempt=%s status=%d verdict=%s %s",
            seen.delivery_id,
            seen.signal_id,
            seen.attempt,
            seen.status_code,
            seen.verdict.value.replace(" ", "_"),
            seen.detail,
        )
        if self._observer is None:
            return
        try:
            self._observer(seen)
        except Exception as error:  # noqa: BLE001  what was decided is answered, whoever listens
            logger.warning("the observer failed: %s%s", type(error).__name__, place(error))


class _Expired(Refused):
    """Past its expiry when the handler's turn came."""
