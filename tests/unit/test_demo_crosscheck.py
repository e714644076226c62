"""The demo's cross-check finds every way in which the two sides can disagree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from signalpost.demo.crosscheck import Called, Witnesses, disagreements
from signalpost.demo.ledger import Receipt, Verdict
from signalpost.repository.evidence import AlertFact, AttemptFact, DeliveryFact, Evidence

NOW = datetime(2026, 3, 2, 21, 0, tzinfo=UTC)
GOOD, REFUSED, UNREACHED = UUID(int=101), UUID(int=102), UUID(int=103)


def _attempt(delivery: UUID, endpoint: str, number: int, phase: str) -> AttemptFact:
    return AttemptFact(delivery, endpoint, number, phase, "retry", NOW)


EVIDENCE = Evidence(
    signal_ids=frozenset({UUID(int=1), UUID(int=2)}),
    deliveries=(
        DeliveryFact(GOOD, UUID(int=1), "desk", "delivered", None, 0),
        DeliveryFact(REFUSED, UUID(int=2), "desk", "dead", "rejected", 0),
        DeliveryFact(UNREACHED, UUID(int=2), "faraway", "dead", "exhausted", 0),
    ),
    attempts=(
        _attempt(GOOD, "desk", 1, "body"),
        _attempt(GOOD, "desk", 2, "body"),
        _attempt(REFUSED, "desk", 1, "body"),
        _attempt(UNREACHED, "faraway", 1, "connect"),
    ),
    alerts=(
        AlertFact(REFUSED, "dead", NOW, "1"),
        AlertFact(UNREACHED, "dead", NOW, "2"),
    ),
)
WITNESSES = Witnesses(
    called=[Called(NOW, UUID(int=1), 1, False), Called(NOW, UUID(int=2), 2, False)],
    ledger=[
        Receipt(1.0, "desk", Verdict.FAILED, str(GOOD), ""),
        Receipt(1.5, "desk", Verdict.BAD_SIGNATURE, "", ""),
        Receipt(2.0, "desk", Verdict.ACCEPTED, str(GOOD), str(UUID(int=1))),
        Receipt(3.0, "desk", Verdict.REFUSED, str(REFUSED), str(UUID(int=2))),
    ],
    heard={"desk"},
    forged=1,
    alert_receipts={"1", "2"},
)

ACCEPTED = WITNESSES.ledger[2]


def test_two_sides_that_agree_have_no_disagreement() -> None:
    """Where everything matches, nothing is reported."""
    assert disagreements(EVIDENCE, WITNESSES) == []


def _without_a_signal(e: Evidence, w: Witnesses) -> tuple[Evidence, Witnesses]:
    return replace(e, signal_ids=frozenset({UUID(int=1)})), w


def _with_a_strange_signal(e: Evidence, w: Witnesses) -> tuple[Evidence, Witnesses]:
    return replace(e, signal_ids=e.signal_ids | {UUID(int=9)}), w


def _with_a_promise_too_many(e: Evidence, w: Witnesses) -> tuple[Evidence, Witnesses]:
    return e, replace(w, called=[*w.called[:1], replace(w.called[1], deliveries=3)])


def _with_one_still_pending(e: Evidence, w: Witnesses) -> tuple[Evidence, Witnesses]:
    pending = replace(e.deliveries[2], status="pending", reason=None)
    return replace(e, deliveries=(*e.deliveries[:2], pending)), w


def _delivered_but_never_arrived(e: Evidence, w: Witnesses) -> tuple[Evidence, Witnesses]:
    return e, replace(
        w, ledger=[*w.ledger[:2], replace(ACCEPTED, verdict=Verdict.FAILED), *w.ledger[3:]]
    )


def _arrived_but_dead_here(e: Evidence, w: Witnesses) -> tuple[Evidence, Witnesses]:
    dead = replace(e.deliveries[0], status="dead", reason="exhausted")
    alert = AlertFact(GOOD, "dead", NOW, "1")
    return replace(e, deliveries=(dead, *e.deliveries[1:]), alerts=(*e.alerts, alert)), w


def _executed_twice(e: Evidence, w: Witnesses) -> tuple[Evidence, Witnesses]:
    ledger = [replace(w.ledger[0], verdict=Verdict.ACCEPTED), *w.ledger[1:]]
    return e, replace(w, ledger=ledger)


def _with_an_unrecorded_request(e: Evidence, w: Witnesses) -> tuple[Evidence, Witnesses]:
    return replace(e, attempts=e.attempts[1:]), w


def _with_a_second_forgery(e: Evidence, w: Witnesses) -> tuple[Evidence, Witnesses]:
    return e, replace(w, ledger=[*w.ledger, w.ledger[1]])


def _with_a_silent_dead_letter(e: Evidence, w: Witnesses) -> tuple[Evidence, Witnesses]:
    unsent = replace(e.alerts[1], sent_at=None, receipt=None)
    return replace(e, alerts=(e.alerts[0], unsent)), w


def _with_a_receipt_of_nothing(e: Evidence, w: Witnesses) -> tuple[Evidence, Witnesses]:
    return e, replace(w, alert_receipts={"1"})


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_without_a_signal, "1 signals that the strategy enqueued are not in the database"),
        (_with_a_strange_signal, "1 signals in the database were not enqueued by the strategy"),
        (_with_a_promise_too_many, "the strategy was promised 4 deliveries, there are 3"),
        (_with_one_still_pending, "1 deliveries have not reached an end"),
        (_delivered_but_never_arrived, "1 deliveries are delivered but not accepted there"),
        (_arrived_but_dead_here, "the receiver has 1 deliveries accepted that are not delivered"),
        (_executed_twice, "the receiver accepted 1 deliveries more than once"),
        (_with_an_unrecorded_request, "desk: 2 attempts were sent, 3 arrived"),
        (_with_a_second_forgery, "the receiver saw 2 bad signatures, 1 were forged"),
        (_with_a_silent_dead_letter, "1 dead or expired deliveries have no alert that was sent"),
        (_with_a_receipt_of_nothing, "1 receipts of alerts name no message that arrived"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_each_disagreement_is_told(
    spoil: Callable[[Evidence, Witnesses], tuple[Evidence, Witnesses]], told: str
) -> None:
    """One thing that is off gives exactly one line, which says what it is."""
    lines = disagreements(*spoil(EVIDENCE, WITNESSES))

    assert [told in line for line in lines] == [True], lines
