"""Receivers tried from this machine: reached without a word, or posted a signed test to."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from signalpost.core.extraheaders import with_extra
from signalpost.core.outcomes import Answer, Failure
from signalpost.core.signing import secret_bytes
from signalpost.core.testsignal import TEST_BODY, sign_test
from signalpost.doctor.meanings import STOPPED
from signalpost.repository.endpoints import EndpointView
from signalpost.secretbox import SecretBox, unseal
from signalpost.sender import Parcel, Progress, Sender
from signalpost.settings import Settings
from signalpost.transport import AiohttpTransport

__all__ = ["Reached", "Receivers", "receivers"]

PRODUCER = "signalpost"
"""Who sends a test where PRODUCER_ID is not set."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What came back from a receiver, and how long the certificate that it showed is valid."""

    answer: Answer
    certificate_end: datetime | None


class Receivers:
    """Tries endpoints one by one or side by side, by the very way that deliveries take.

    Args:
        sender: sends.
        settings: whose producer, and whose time an attempt may take.
    """

    def __init__(self, sender: Sender, settings: Settings) -> None:
        self._sender = sender
        self._settings = settings

    async def reach(self, view: EndpointView, *, timeout_seconds: float) -> Reached:
        """Resolve, connect and encrypt, and hang up before the first byte of a request.

        The answer's failure is STOPPED where all of that went well.
        """
        return await self._send(view, {}, timeout_seconds, stopped=True)

    async def post(
        self,
        view: EndpointView,
        box: SecretBox,
        *,
        now: datetime,
        timeout_seconds: float | None,
        only_new: bool = False,
    ) -> Reached:
        """Post the test signal, signed as a delivery at `now` would be.

        Args:
            view: the endpoint.
            box: decrypts its secrets.
            now: database time, which says whether the secret rotates.
            timeout_seconds: at most; None: as long as the endpoint's policy says.
            only_new: not by the previous secret, also while it still signs.

        Raises SecretError for a secret that cannot be read, EndpointError for a bad URL.
        """
        ciphertexts = [view.secret_ciphertext]
        if not only_new and view.rotates(now) and view.previous_secret_ciphertext is not None:
            ciphertexts.append(view.previous_secret_ciphertext)
        headers = sign_test(
            view.url,
            keys=[secret_bytes(box.decrypt(text).decode()) for text in ciphertexts],
            key_ids=_key_ids(view, len(ciphertexts)),
            producer_id=self._settings.producer_id or PRODUCER,
            delivery_id=str(uuid4()),
            timestamp=datetime.now(UTC),
        )
        own = view.timeout_seconds or self._settings.outbound_timeout_seconds
        seconds = own if timeout_seconds is None else min(own, timeout_seconds)
        headers = with_extra(unseal(view.headers, box), headers)
        return await self._send(view, headers, seconds, stopped=False)

    async def _send(
        self, view: EndpointView, headers: dict[str, str], seconds: float, *, stopped: bool
    ) -> Reached:
        def last_check() -> Failure | None:
            return STOPPED if stopped else None

        progress = Progress()
        parcel = Parcel(view.url, headers, TEST_BODY, seconds, last_check)
        answer = await self._sender.send(parcel, progress)
        return Reached(answer, _certificate_end(progress))


def _certificate_end(progress: Progress) -> datetime | None:
    certificate = progress.tls.getpeercert() if progress.tls is not None else None
    end = (certificate or {}).get("notAfter")
    if not isinstance(end, str):
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(end), UTC)


@asynccontextmanager
async def receivers(settings: Settings) -> AsyncIterator[Receivers]:
    """Receivers as these settings reach them, with connections of their own."""
    sender = Sender(AiohttpTransport(settings.outbound_allow_networks))
    try:
        yield Receivers(sender, settings)
    finally:
        await sender.aclose()


def _key_ids(view: EndpointView, count: int) -> Sequence[str]:
    return [f"{view.name}:{view.secret_version - age}" for age in range(count)]
