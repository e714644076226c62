"""The demo's latency: percentiles, and what is left out of them."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from signalpost.demo.crosscheck import Called
from signalpost.demo.latency import Latency, percentile, quiet_latency
from signalpost.demo.ledger import Receipt, Verdict


def _called(number: int, at: float) -> Called:
    return Called(datetime.fromtimestamp(at, UTC), UUID(int=number), 1, duplicate=False)


def _receipt(number: int, at: float, verdict: Verdict = Verdict.ACCEPTED) -> Receipt:
    signal = "" if verdict is Verdict.FAILED else str(UUID(int=number))
    return Receipt(at, "desk", verdict, f"delivery-{number}", signal)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 2), (0.51, 3), (0.75, 3), (0.99, 4), (1.0, 4), (0.0, 1)]
)
def test_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    """Of four values the median is the second and p99 the last."""
    assert percentile([4, 1, 3, 2], share) == expected


def test_latency_is_from_the_call_to_the_accepted_request() -> None:
    """Duplicates and refusals are not measured, only what was accepted."""
    called = [_called(1, 100.0), _called(2, 101.0)]
    ledger = [_receipt(1, 100.25), _receipt(1, 105.0, Verdict.DUPLICATE), _receipt(2, 101.5)]

    assert quiet_latency(called, ledger) == Latency(2, 0.25, 0.5)


def test_what_was_enqueued_during_the_outage_is_left_out() -> None:
    """From a second before the first failure until what failed was caught up nothing counts."""
    called = [_called(n, at) for n, at in ((1, 10.0), (2, 19.5), (3, 20.0), (4, 22.0), (5, 30.0))]
    ledger = [
        _receipt(1, 10.125),
        _receipt(3, 20.0, Verdict.FAILED),
        _receipt(2, 21.0),
        _receipt(4, 22.5),
        _receipt(3, 23.0),
        _receipt(5, 30.25),
    ]

    assert quiet_latency(called, ledger) == Latency(2, 0.125, 0.25)


def test_nothing_accepted_has_no_latency() -> None:
    """Without an accepted delivery there is nothing to measure."""
    assert quiet_latency([_called(1, 1.0)], []) is None
