"""The work of `signalpost send`: lines checked, enqueued in chunks, counted, told."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO
from uuid import UUID

import click

from signalpost.cli.following import Progress
from signalpost.cli.lines import BadLine, GoodLine, checked, chunks
from signalpost.cli.printing import note, printable
from signalpost.core.signals import Signal
from signalpost.errors import (
    EnqueueTimeout,
    EnqueueUnknown,
    IdempotencyConflict,
    SignalpostError,
)
from signalpost.producer import DEFAULT, Enqueued, Producer

__all__ = ["Sending"]

_TRIES = 3
_FEW = 5
"""Up to so many signals are named one by one."""

_CHUNK_SECONDS = 30.0
_STRICT_SECONDS_EACH = 0.01


class Sending:
    """One run of `send`; counts as it goes, so that an error half-way can be told truly.

    Args:
        producer: enqueues.
        progress: shown while it goes on.
        size_limit: of a body, in bytes.
        endpoints: their names; None means all.
        ttl: seconds; None leaves it to the endpoints and the settings.
    """

    def __init__(
        self,
        producer: Producer,
        progress: Progress,
        *,
        size_limit: int,
        endpoints: Sequence[str] | None,
        ttl: float | None,
    ) -> None:
        self._producer = producer
        self._progress = progress
        self._size_limit = size_limit
        self._endpoints = endpoints
        self._ttl = DEFAULT if ttl is None else ttl
        self._started_at = time.monotonic()
        self._few: list[Enqueued] = []
        self._in_doubt = 0
        self.signals = 0
        self.duplicates = 0
        self.unannounced = 0
        self.deliveries: list[UUID] = []
        self.bad: list[BadLine] = []
        self.elsewhere: Counter[str] = Counter()
        """Endpoints that were asked for, and how many known signals have no delivery to them."""
        self.complete = False

    def chunk_by_chunk(self, source: BinaryIO) -> None:
        """Send the good lines as they come; a bad one is told at once."""
        for good in self._good_lines(source):
            try:
                self._enqueue(good)
            except IdempotencyConflict:
                self._one_by_one(good)

    def all_or_none(self, source: BinaryIO) -> None:
        """Send all lines in one transaction, or none where one is bad."""
        good = list(chain.from_iterable(self._good_lines(source)))
        if not self.bad and good:
            seconds = _CHUNK_SECONDS + _STRICT_SECONDS_EACH * len(good)
            self._enqueue(good, timeout=seconds)

    def summarise(self) -> None:
        """Tell on standard output what was sent; on standard error what to know of it."""
        for one in self._few if self.signals <= _FEW else ():
            known = " (known already)" if one.duplicate else ""
            click.echo(f"signal {one.signal_id}{known}")
            for delivery in one.deliveries:
                click.echo(f"  delivery {delivery.delivery_id} to {delivery.endpoint}")
        seconds = max(time.monotonic() - self._started_at, 0.001)
        click.echo(
            f"{self.signals} signals, {len(self.deliveries)} deliveries, "
            f"{self.duplicates} known already, {len(self.bad)} bad lines; "
            f"{seconds:.1f} s, {self.signals / seconds:.0f} a second"
        )
        if not self.complete and (self.signals or self._in_doubt):
            more = f"; up to {self._in_doubt} more may have been enqueued"
            doubt = more if self._in_doubt else ""
            note(f"stopped before the end{doubt}; sending the same lines again is safe")
        for endpoint, number in sorted(self.elsewhere.items()):
            note(
                f"{number} of these are known already and were not sent to {endpoint}: a signal's "
                "endpoints are those of its first sending"
            )
        if any(bad.number == 1 and "JSON: not JSON" in bad.why for bad in self.bad):
            note("a line is one whole JSON object; `jq -c '.[]' FILE` makes lines of an array")
        if self.unannounced:
            note("Redis was not told of all; the workers take them from PostgreSQL within seconds")

    def facts(self) -> dict[str, Any]:
        """The same for a program."""
        return {
            "signals": self.signals,
            "deliveries": len(self.deliveries),
            "duplicates": self.duplicates,
            "unannounced": self.unannounced,
            "not_sent_to": dict(self.elsewhere),
            "complete": self.complete,
            "bad": [{"line": bad.number, "why": bad.why} for bad in self.bad],
        }

    def _good_lines(self, source: BinaryIO) -> Iterator[list[GoodLine]]:
        for group in chunks(source):
            lines = list(checked(group, size_limit=self._size_limit, identify=self._identified))
            for line in lines:
                if isinstance(line, BadLine):
                    self._refuse(line)
            if good := [line for line in lines if isinstance(line, GoodLine)]:
                yield good

    def _identified(self, signal: Signal) -> Signal:
        return signal.identified(self._producer.producer_id)

    def _refuse(self, line: BadLine) -> None:
        self.bad.append(line)
        self._progress.clear()
        note(f"line {line.number}: {printable(line.why)}")

    def _one_by_one(self, good: Sequence[GoodLine]) -> None:
        """A chunk with a conflict in it: all but the lines that conflict are sent."""
        for line in good:
            try:
                self._enqueue([line])
            except IdempotencyConflict as conflict:
                self._refuse(BadLine(line.number, str(conflict)))

    def _enqueue(self, good: Sequence[GoodLine], *, timeout: float = _CHUNK_SECONDS) -> None:
        self._in_doubt = len(good)
        unknown = False
        for left in reversed(range(_TRIES)):
            try:
                results = self._producer.enqueue_many(
                    [line.signal for line in good],
                    endpoints=self._endpoints,
                    ttl=self._ttl,
                    timeout=timeout,
                )
                break
            except SignalpostError as error:
                unknown = unknown or isinstance(error, EnqueueUnknown)
                # Known signals are recognised, so asking again is safe.
                if left and isinstance(error, EnqueueTimeout | EnqueueUnknown):
                    continue
                if not unknown:
                    self._in_doubt = 0
                raise
        else:
            return
        self._count(results)

    def _count(self, results: Sequence[Enqueued]) -> None:
        self._in_doubt = 0
        for one in results:
            self.signals += 1
            self.duplicates += one.duplicate
            self.unannounced += not one.announced
            self.deliveries += [delivery.delivery_id for delivery in one.deliveries]
            reached = {delivery.endpoint for delivery in one.deliveries}
            self.elsewhere.update(set(self._endpoints or ()) - reached)
            if len(self._few) < _FEW:
                self._few.append(one)
        rate = self.signals / max(time.monotonic() - self._started_at, 0.001)
        self._progress.show(f"{self.signals} sent, {len(self.bad)} bad lines, {rate:.0f} a second")
