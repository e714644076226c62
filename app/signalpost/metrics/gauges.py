"""How the outbox and the queues stand, read when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from signalpost.repository.overview import Overview

__all__ = ["OutboxGauges"]


class OutboxGauges(Collector):
    """Gauges for one process of a system: every ops worker would tell the same.

    Args:
        look: the outbox as it stands, or a line that says why it cannot be read.
        depths: the length of each queue in Redis; None where Redis cannot be asked.
    """

    def __init__(
        self,
        look: Callable[[], Overview | str],
        depths: Callable[[], Mapping[str, int] | None],
    ) -> None:
        self._look = look
        self._depths = depths

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: being added to a registry must not ask the database."""
        yield from ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read all; what cannot be read is left out, and the `_up` gauge says so."""
        seen = self._look()
        readable = isinstance(seen, Overview)
        yield _one("signalpost_database_up", "Whether the outbox can be read.", int(readable))
        if isinstance(seen, Overview):
            yield from _outbox(seen)
        depths = self._depths()
        yield _one("signalpost_redis_up", "Whether Redis answers.", int(depths is not None))
        if depths is not None:
            yield _many(
                "signalpost_queue_messages",
                "Messages that wait in a queue; they may be of deliveries made long ago.",
                "queue",
                depths,
            )


def _outbox(seen: Overview) -> Iterator[GaugeMetricFamily]:
    yield _many(
        "signalpost_deliveries",
        "Unfinished deliveries and dead letters, by status.",
        "status",
        {status.value: n for status, n in {**seen.unfinished, **seen.dead_letters}.items()},
    )
    yield _many(
        "signalpost_finished_last_hour",
        "Deliveries that ended in the last hour, by status.",
        "status",
        {status.value: number for status, number in seen.finished.items()},
    )
    yield _one("signalpost_due", "Deliveries that are due.", seen.due)
    yield _one(
        "signalpost_overdue",
        "Deliveries that have been due for 10 s and that nobody has taken.",
        seen.overdue,
    )
    yield _one(
        "signalpost_oldest_due_seconds",
        "How long the oldest due delivery has been due; 0 where none is.",
        seen.oldest_due_seconds or 0.0,
    )
    yield _one("signalpost_alerts_unsent", "Alerts not yet sent.", seen.alerts_unsent)
    yield _one(
        "signalpost_oldest_alert_seconds",
        "Age of the oldest alert not yet sent; 0 where none waits.",
        seen.oldest_alert_seconds or 0.0,
    )
    yield _one(
        "signalpost_deliver_workers",
        "Deliver workers that are alive.",
        sum(worker.alive for worker in seen.workers),
    )


def _one(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, what, value=value)


def _many(name: str, what: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, what, labels=[label])
    for one, value in values.items():
        family.add_metric([one], value)
    return family
