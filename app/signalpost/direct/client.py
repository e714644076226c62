"""One signal, signed and posted now, with the receiver's answer or an error."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx

from signalpost.core.identity import check_producer_id, derived_id
from signalpost.core.lifecycle import MIN_LIFE_SECONDS
from signalpost.core.outcomes import Answer, Failure, classify
from signalpost.core.signals import Signal
from signalpost.core.signing import Outgoing, secret_bytes, sign
from signalpost.core.targets import read_target
from signalpost.direct.answers import ANSWER_BYTES, SignalIngestResponse
from signalpost.direct.judging import judged
from signalpost.errors import ConfigurationError, SendError, SignalExpired
from signalpost.producer.preparing import prepared
from signalpost.repository.recognising import NewSignal
from signalpost.sender import Parcel, Progress, Sender
from signalpost.settings import Settings, load_settings
from signalpost.transport import AiohttpTransport

__all__ = ["SignalClient"]

MOST_REMEMBERED = 10_000
"""Signals; of older ones it is forgotten how often they were sent, never their keys."""


@dataclass(slots=True)
class _Sent:
    """What this client knows of a signal that it has sent before."""

    expires_at: datetime
    attempts: int = 0
    maybe_received: bool = False


class SignalClient:
    """Posts signals to one receiver; use it with `async with`, in one event loop.

    Not durable: see `signalpost.direct`. What is not given comes from `environ`:
    OUTBOUND_SERVER_URL, HMAC_PRODUCER_SECRET, PRODUCER_ID, OUTBOUND_TIMEOUT_SECONDS (the total of
    one attempt), OUTBOUND_MAX_BODY_SIZE, OUTBOUND_ALLOW_NETWORKS, SIGNAL_TTL_SECONDS. `transport`
    takes the place of the network, `now` that of the clock. Raises ConfigurationError, and
    EndpointError for a URL that cannot be sent to.
    """

    def __init__(
        self,
        url: str | None = None,
        secret: str | None = None,
        *,
        producer_id: str | None = None,
        timeout: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        environ: Mapping[str, str] = os.environ,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        settings = _settings(url, secret, producer_id, environ)
        self.producer_id = check_producer_id(settings.producer_id)
        self._url, self._key = _receiver(settings)
        self._target = read_target(self._url)
        self._timeout = settings.outbound_timeout_seconds if timeout is None else timeout
        if not 0 < self._timeout <= 300:
            raise ConfigurationError("timeout must be seconds above 0 and at most 300")
        self._settings = settings
        self._transport = transport
        self._now = now
        self._sender: Sender | None = None
        self._sent: OrderedDict[UUID, _Sent] = OrderedDict()

    async def send(
        self, signal: Signal | Mapping[str, Any], *, key: str | None = None
    ) -> SignalIngestResponse:
        """Sign the signal and post it, once; what the receiver said, if it took it.

        The idempotency key follows from the producer's id, the URL and the signal: it is the same
        however often this is called, also after a restart. `key` is your own name for a signal
        without id, as in `Producer.enqueue`. Without an `expires_at` its life ends
        SIGNAL_TTL_SECONDS after this client sent it first. A 409 counts as taken if an earlier
        attempt may have arrived.

        Raises SignalError for a signal that breaks a rule, EndpointError where the address is not
        allowed, and else the SendErrors: SignalRejected (also where a 2xx says `rejected`),
        SignalExpired, ReceiverError, SendTimeout, NetworkError. `maybe_received` is on each.
        """
        if self._sender is None:
            raise SendError("the client is not open; use it with `async with SignalClient(...)`")
        most = self._settings.outbound_max_body_size
        new = prepared(signal, key, producer_id=self.producer_id, most_bytes=most)
        delivery_id = self.idempotency_key(new)
        sent = self._remembered(delivery_id, new)
        life = self._life(sent)
        if life < MIN_LIFE_SECONDS:
            raise SignalExpired(maybe_received=sent.maybe_received)
        sent.attempts += 1
        parcel = Parcel(
            url=self._url,
            headers=self._signed(new.body, delivery_id, sent),
            body=new.body,
            timeout_seconds=min(self._timeout, life),
            last_check=lambda: Failure.EXPIRED if self._life(sent) < MIN_LIFE_SECONDS else None,
        )
        answer = await self._exchange(self._sender, parcel, sent)
        earlier = sent.maybe_received
        verdict = classify(answer, maybe_received=earlier)
        sent.maybe_received = earlier or verdict.maybe_received
        return judged(
            answer,
            verdict,
            maybe_received=sent.maybe_received,
            timeout_seconds=parcel.timeout_seconds,
            now=self._now(),
        )

    def idempotency_key(self, signal: NewSignal) -> UUID:
        """The key on the wire for a prepared signal; see `send`."""
        target = self._target
        url = f"{target.scheme}://{target.authority}{target.request_target}"
        return derived_id("direct", self.producer_id, f"{url}\0".encode() + signal.body)

    async def aclose(self) -> None:
        """Drop the connections; the client may be opened again."""
        sender, self._sender = self._sender, None
        if sender is not None:
            await sender.aclose()

    async def __aenter__(self) -> Self:
        transport = self._transport or AiohttpTransport(self._settings.outbound_allow_networks)
        self._sender = Sender(transport, excerpt_bytes=ANSWER_BYTES)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _exchange(self, sender: Sender, parcel: Parcel, sent: _Sent) -> Answer:
        progress = Progress()
        try:
            return await sender.send(parcel, progress)
        except asyncio.CancelledError:
            sent.maybe_received = sent.maybe_received or progress.phase.wrote
            raise

    def _signed(self, body: bytes, delivery_id: UUID, sent: _Sent) -> dict[str, str]:
        outgoing = Outgoing(
            method="POST",
            authority=self._target.authority,
            raw_path=self._target.raw_path,
            query=self._target.query,
            body=body,
            producer_id=self.producer_id,
            delivery_id=str(delivery_id),
            attempt=sent.attempts,
            expires_at=sent.expires_at,
            replayed=False,
            sequence=None,
            timestamp=self._now(),
        )
        return sign(outgoing, keys=[self._key], key_ids=["direct"])

    def _remembered(self, delivery_id: UUID, new: NewSignal) -> _Sent:
        sent = self._sent.get(delivery_id)
        if sent is None:
            ttl = timedelta(seconds=self._settings.signal_ttl_seconds)
            sent = self._sent[delivery_id] = _Sent(new.expires_at or self._now() + ttl)
            if len(self._sent) > MOST_REMEMBERED:
                self._sent.popitem(last=False)
        return sent

    def _life(self, sent: _Sent) -> float:
        """Seconds that are left of it."""
        return (sent.expires_at - self._now()).total_seconds()


def _settings(
    url: str | None, secret: str | None, producer_id: str | None, environ: Mapping[str, str]
) -> Settings:
    given = {"OUTBOUND_SERVER_URL": url, "HMAC_PRODUCER_SECRET": secret, "PRODUCER_ID": producer_id}
    named = {f"SIGNALPOST_{name}": value for name, value in given.items() if value}
    settings = load_settings({**environ, **named}, servers=False)
    if not settings.hmac_producer_enabled:
        raise ConfigurationError("HMAC_PRODUCER_ENABLED is false, so nothing is sent")
    return settings


def _receiver(settings: Settings) -> tuple[str, bytes]:
    if settings.outbound_server_url is None:
        raise ConfigurationError("no receiver: give a url, or set OUTBOUND_SERVER_URL")
    if settings.hmac_producer_secret is None:
        raise ConfigurationError("no secret: give the receiver's, or set HMAC_PRODUCER_SECRET")
    return settings.outbound_server_url, secret_bytes(settings.hmac_producer_secret)
