"""Enqueueing: at once, awaited, many at once, and inside the caller's own transaction."""

from __future__ import annotations

from signalpost.producer.preparing import DEFAULT
from signalpost.producer.producer import Enqueued, Producer
from signalpost.repository.recognising import DeliveryView

__all__ = ["DEFAULT", "DeliveryView", "Enqueued", "Producer"]
