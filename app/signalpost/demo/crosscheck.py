"""Does what signalpost recorded agree with what the others counted on their own?

Three witnesses that share nothing with the database: the strategy's printed lines, the receiver's
ledger, and the messages that arrived at the Bot API. Pure; every disagreement is one line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from signalpost.core.lifecycle import Status
from signalpost.core.outcomes import Phase
from signalpost.demo.ledger import Receipt, Verdict
from signalpost.repository.evidence import Evidence

__all__ = ["Called", "Witnesses", "disagreements"]


@dataclass(frozen=True, slots=True)
class Called:
    """One enqueue as the strategy printed it; ``at`` is just before the call, by its clock."""

    at: datetime
    signal_id: UUID
    deliveries: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Witnesses:
    """What others counted.

    ``heard``: the endpoints whose server keeps the ledger. ``forged``: how many requests with a
    wrong signature the demo itself sent there. ``receipts`` of alerts are message ids.
    """

    called: Sequence[Called]
    ledger: Sequence[Receipt]
    heard: Collection[str]
    forged: int
    alert_receipts: Collection[str]


def disagreements(evidence: Evidence, witnesses: Witnesses) -> list[str]:
    """Hold the evidence against the witnesses; return one line for each thing that is off."""
    return [
        *_signals(evidence, witnesses),
        *_ends(evidence),
        *_receipts(evidence, witnesses),
        *_requests(evidence, witnesses),
        *_forgeries(witnesses),
        *_alerts(evidence, witnesses),
    ]


def _signals(evidence: Evidence, witnesses: Witnesses) -> Iterator[str]:
    enqueued = {call.signal_id for call in witnesses.called}
    if lost := enqueued - evidence.signal_ids:
        yield f"{len(lost)} signals that the strategy enqueued are not in the database"
    if strange := evidence.signal_ids - enqueued:
        yield f"{len(strange)} signals in the database were not enqueued by the strategy"
    promised = sum(call.deliveries for call in witnesses.called if not call.duplicate)
    if promised != len(evidence.deliveries):
        found = len(evidence.deliveries)
        yield f"the strategy was promised {promised} deliveries, there are {found}"


def _ends(evidence: Evidence) -> Iterator[str]:
    open_ones = sum(not Status(fact.status).terminal for fact in evidence.deliveries)
    if open_ones:
        yield f"{open_ones} deliveries have not reached an end"


def _receipts(evidence: Evidence, witnesses: Witnesses) -> Iterator[str]:
    for status, reason, verdict in (
        ("delivered", None, Verdict.ACCEPTED),
        ("dead", "rejected", Verdict.REFUSED),
    ):
        ours = {
            (fact.endpoint, str(fact.delivery_id))
            for fact in evidence.deliveries
            if fact.status == status and (reason is None or fact.reason == reason)
        }
        theirs = Counter(
            (receipt.endpoint, receipt.delivery)
            for receipt in witnesses.ledger
            if receipt.verdict is verdict
        )
        if missing := ours - theirs.keys():
            yield f"{len(missing)} deliveries are {reason or status} but not {verdict} there"
        if strange := theirs.keys() - ours:
            yield f"the receiver has {len(strange)} deliveries {verdict} that are not {status} here"
        if verdict is Verdict.ACCEPTED and (twice := sum(n > 1 for n in theirs.values())):
            yield f"the receiver accepted {twice} deliveries more than once"


def _requests(evidence: Evidence, witnesses: Witnesses) -> Iterator[str]:
    sent = Counter(
        fact.endpoint
        for fact in evidence.attempts
        if Phase(fact.phase).wrote and fact.endpoint in witnesses.heard
    )
    heard = Counter(
        receipt.endpoint
        for receipt in witnesses.ledger
        if receipt.verdict is not Verdict.BAD_SIGNATURE
    )
    for endpoint in sorted(sent.keys() | heard.keys()):
        if sent[endpoint] != heard[endpoint]:
            yield f"{endpoint}: {sent[endpoint]} attempts were sent, {heard[endpoint]} arrived"


def _forgeries(witnesses: Witnesses) -> Iterator[str]:
    bad = sum(receipt.verdict is Verdict.BAD_SIGNATURE for receipt in witnesses.ledger)
    if bad != witnesses.forged:
        yield f"the receiver saw {bad} bad signatures, {witnesses.forged} were forged"


def _alerts(evidence: Evidence, witnesses: Witnesses) -> Iterator[str]:
    told = {alert.delivery_id for alert in evidence.alerts if alert.sent_at is not None}
    letters = {
        fact.delivery_id
        for fact in evidence.deliveries
        if fact.status in (Status.DEAD, Status.EXPIRED)
    }
    if silent := letters - told:
        yield f"{len(silent)} dead or expired deliveries have no alert that was sent"
    receipts = {alert.receipt for alert in evidence.alerts if alert.sent_at is not None}
    if unknown := receipts - set(witnesses.alert_receipts):
        yield f"{len(unknown)} receipts of alerts name no message that arrived"
