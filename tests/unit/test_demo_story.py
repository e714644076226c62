"""The demo tells each turn of its story once, and only when it has come."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from signalpost.demo.ledger import Receipt, Verdict
from signalpost.demo.progress import standing
from signalpost.demo.story import Storyteller
from signalpost.repository.evidence import AttemptFact, DeliveryFact, Evidence

NOTHING = Evidence(frozenset(), (), (), ())


def _line(at: float, verdict: Verdict, delivery: str) -> Receipt:
    return Receipt(at, "desk", verdict, delivery, "")


def test_a_turn_is_told_once() -> None:
    """What was told is not told again, however often it is looked at."""
    storyteller = Storyteller()
    ledger = [_line(1.0, Verdict.ACCEPTED, "one")]

    first = list(storyteller.turns(NOTHING, ledger, alerts=1))

    assert first == [
        "first signal verified and accepted (delivery one)",
        "the first alert has arrived at the Bot API",
    ]
    assert list(storyteller.turns(NOTHING, ledger, alerts=1)) == []


def test_the_receiver_is_back_only_after_its_last_failure() -> None:
    """What was accepted before the outage does not end it; all is well once all is answered."""
    storyteller = Storyteller()
    ledger = [
        _line(1.0, Verdict.ACCEPTED, "before"),
        _line(2.0, Verdict.FAILED, "one"),
        _line(2.5, Verdict.FAILED, "two"),
    ]
    told = list(storyteller.turns(NOTHING, ledger, alerts=0))
    assert told[-1] == "desk is out of order and answers 503"

    ledger.append(_line(3.0, Verdict.ACCEPTED, "one"))
    assert list(storyteller.turns(NOTHING, ledger, alerts=0)) == ["desk is back"]

    ledger.append(_line(3.5, Verdict.REFUSED, "two"))
    assert list(storyteller.turns(NOTHING, ledger, alerts=0)) == [
        "desk refused one for good with 422 (two)",
        "all 2 deliveries that had failed there were retried and answered",
    ]


def test_the_standing_line_counts_by_status() -> None:
    """Signals, deliveries by status, retries and alerts are in the line."""
    now = datetime(2026, 3, 2, tzinfo=UTC)
    evidence = Evidence(
        frozenset({UUID(int=1)}),
        (
            DeliveryFact(UUID(int=2), UUID(int=1), "desk", "delivered", None, 0),
            DeliveryFact(UUID(int=3), UUID(int=1), "journal", "dead", "exhausted", 0),
        ),
        tuple(AttemptFact(UUID(int=3), "journal", n, "body", "retry", now) for n in (1, 2)),
        (),
    )

    line = "1 signals, 2 deliveries (1 dead, 1 delivered), 1 retries, 0 alerts"
    assert standing(evidence, alerts=0) == line
    assert standing(NOTHING, alerts=0) == "0 signals, 0 deliveries, 0 retries, 0 alerts"
