"""The fault suite's verdict: each kind of finding is found, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.links import Requests
from tests.chaos.mutations import ROOT
from tests.chaos.order import overtaken
from tests.chaos.plan import BY_NAME, placed, schedule
from tests.chaos.verdict import Evidence, Verdict, judge
from tests.chaos.weaknesses import MUTATIONS, Mutation

DELIVERY, SIGNAL = "d1", "s1"
EXPIRES = "2026-01-05T12:00:00.000000Z"
EXPIRES_AT = 1767614400.0


def evidence(**changes: Any) -> Evidence:
    """A signal that was enqueued, delivered at its first attempt, and nothing else."""
    told = {"who": "strategy-0", "n": [0], "at": 0.0}
    facts: dict[str, Any] = {
        "journal": [
            {**told, "op": "call", "signals": [SIGNAL], "sha256": ["hash"]},
            {**told, "op": "enqueued", "signals": [SIGNAL], "deliveries": [{"desk": DELIVERY}]},
        ],
        "ledger": [entry()],
        "wire": [request(EXPIRES_AT - 1)],
        "deliveries": [delivery()],
        "attempts": [attempt(1, "delivered")],
        "alerts": [],
    }
    return Evidence(**{**facts, **changes})


def entry(**changes: Any) -> dict[str, Any]:
    facts = {"at": 0.1, "endpoint": "desk", "key": DELIVERY, "attempt": 1, "sequence": None}
    facts |= {"instrument": "AAPL", "signal": SIGNAL, "sha256": "hash", "valid": True}
    return {**facts, "acted": True, "again": False, "replayed": "false", **changes}


def request(at: float) -> dict[str, Any]:
    headers = {"x-idempotency-key": DELIVERY, "x-signalpost-expires-at": EXPIRES}
    return {"at": at, "lag": 0.01, "link": "desk", **headers}


def delivery(status: str = "delivered", **changes: Any) -> dict[str, Any]:
    facts = {"id": DELIVERY, "signal": SIGNAL, "endpoint": "desk", "reason": None, "priority": 0}
    facts |= {"producer": "strategy-0", "instrument": "AAPL"}
    return {**facts, "status": status, "maybe_received": False, **changes}


def attempt(number: int, outcome: str, failure: str | None = None) -> dict[str, Any]:
    facts = {"id": DELIVERY, "number": number, "outcome": outcome, "failure": failure}
    return {**facts, "phase": "sent", "status_code": None, "late": False}


def findings(verdict: Verdict) -> dict[str, int]:
    return {kind: count for kind, count in verdict.counts.items() if count}


def test_a_clean_course_has_no_finding() -> None:
    """What was enqueued, sent once and recorded is nothing to speak of."""
    assert findings(judge(evidence(), messages=set())) == {}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"deliveries": []}, "lost"),
        ({"deliveries": [delivery("pending")], "ledger": []}, "lost"),
        ({"deliveries": [delivery("sending")], "ledger": []}, "lost"),
        ({"deliveries": [delivery("dead")], "ledger": []}, "silent"),
        ({"deliveries": [delivery("expired")], "ledger": []}, "silent"),
        ({"ledger": [entry(), entry(attempt=2, acted=True, again=True)]}, "duplicated"),
        ({"wire": [request(EXPIRES_AT + 0.02)]}, "late"),
        ({"ledger": [entry(valid=False)], "deliveries": []}, "altered"),
        ({"ledger": [entry(sha256="another")]}, "altered"),
        ({"ledger": []}, "wrong_status"),
        ({"deliveries": [delivery("cancelled")]}, "wrong_status"),
    ],
)
def test_each_fault_is_found(changes: dict[str, Any], kind: str) -> None:
    """Each way in which a signal may come to harm raises its own count."""
    assert kind in findings(judge(evidence(**changes), messages=set()))


def test_a_later_number_before_an_earlier_one_is_misordered() -> None:
    """Where a sequence is sent, first acceptances that fall behind are found."""
    first, second = entry(sequence="2"), entry(key="d2", sequence="1")
    assert judge(evidence(ledger=[first, second]), messages=set()).counts["misordered"] == 1


def test_a_duplicate_with_a_cause_is_counted_apart() -> None:
    """After an attempt whose outcome nobody can know, a second arrival is no finding."""
    ledger = [entry(), entry(attempt=2, again=True)]
    attempts = [attempt(1, "unknown", "timeout"), attempt(2, "delivered")]
    verdict = judge(evidence(ledger=ledger, attempts=attempts), messages=set())
    assert findings(verdict) == {}
    assert verdict.causes == {"unknown: timeout": 1}


def test_one_unknown_outcome_does_not_excuse_all_repeats() -> None:
    """A third arrival after a second that is recorded as delivered needs a cause of its own."""
    ledger = [entry(), *(entry(attempt=number, again=True) for number in (2, 3))]
    attempts = [attempt(1, "unknown", "timeout"), attempt(2, "delivered"), attempt(3, "delivered")]
    verdict = judge(evidence(ledger=ledger, attempts=attempts), messages=set())
    assert findings(verdict) == {"duplicated": 1}


@pytest.mark.parametrize(("outcome", "found"), [("unknown", 0), ("released", 1)])
def test_what_the_network_brings_after_the_next_attempt_was_given_up_on_its_way(
    outcome: str, found: int
) -> None:
    """An older attempt may arrive after a newer one, if nobody could know what became of it."""
    ledger = [entry(attempt=2), entry(attempt=1, again=True)]
    attempts = [attempt(1, outcome, "timeout"), attempt(2, "delivered")]
    verdict = judge(evidence(ledger=ledger, attempts=attempts), messages=set())
    assert verdict.counts["duplicated"] == found


@pytest.mark.parametrize(("seconds", "found"), [(9.0, 0), (1.0, 1)])
def test_news_of_a_silent_worker_explain_a_repeat_only_after_its_lease(
    seconds: float, found: int
) -> None:
    """A claim is taken back after its lease, so a repeat before that has another, worse cause."""
    ledger = [entry(), entry(attempt=2, again=True, at=0.1 + seconds)]
    attempts = [attempt(1, "delivered") | {"late": True}, attempt(2, "delivered")]
    verdict = judge(evidence(ledger=ledger, attempts=attempts), messages=set())
    assert verdict.counts["duplicated"] == found


@pytest.mark.parametrize(
    ("endpoint", "priority", "found"),
    [("desk", "normal", 1), ("journal", "normal", 0), ("journal", "high", 1)],
)
def test_what_is_begun_after_a_later_one_of_its_key_is_misordered(
    endpoint: str, priority: str, found: int
) -> None:
    """On an ordered endpoint, and where an exit overtakes its own key; seen by first bytes."""
    told = {"who": "strategy-0", "at": 0.0, "keys": ["AAPL"]}
    journal = [
        {**told, "op": "call", "n": [0], "signals": ["s1"], "sha256": ["hash"], "way": {}},
        {**told, "op": "enqueued", "n": [0], "signals": ["s1"], "deliveries": [{endpoint: "d1"}]},
        {**told, "op": "call", "n": [8], "signals": ["s2"], "sha256": ["hash"]}
        | {"way": {"priority": priority}},
        {**told, "op": "enqueued", "n": [8], "signals": ["s2"], "deliveries": [{endpoint: "d2"}]},
    ]
    wire = [{"x-idempotency-key": key, "link": endpoint} for key in ("d1", "d2")]
    assert overtaken(wire, journal) == []
    assert len(overtaken(wire[::-1], journal)) == found


def test_what_was_prevented_or_paused_must_not_arrive() -> None:
    """Whose withdrawal a person was told of, and what a pause holds, is found where it goes out."""
    cancelled = {"op": "cancel", "id": DELIVERY, "answer": "prevented"}
    ended = evidence(hands=[cancelled], deliveries=[delivery("cancelled", maybe_received=True)])
    assert findings(judge(ended, messages=set())) == {"wrong_status": 1}
    pause = {"op": "paused", "since": EXPIRES_AT - 4, "at": EXPIRES_AT}
    for scope, value, found in [
        ("all", None, 1),
        ("endpoint", "desk", 1),
        ("endpoint", "journal", 0),
        ("instrument", "AAPL", 1),
        ("producer", "strategy-1", 0),
    ]:
        held = evidence(hands=[{**pause, "scope": scope, "value": value}])
        assert judge(held, messages=set()).counts["wrong_status"] == found


def test_a_receipt_that_nobody_gave_is_silence() -> None:
    """An alert counts where the message that it names was really taken."""
    alert = {"id": DELIVERY, "kind": "dead", "sent_at": "now", "receipt": "7"}
    seen = evidence(deliveries=[delivery("dead")], ledger=[], alerts=[alert])
    assert findings(judge(seen, messages={"7"})) == {}
    assert findings(judge(seen, messages={"8"})) == {"silent": 1}


def test_what_was_refused_must_not_exist() -> None:
    """A signal that its strategy was told is not enqueued is found where it is."""
    told = {"who": "strategy-0", "n": [0], "at": 0.0}
    journal = [
        {**told, "op": "call", "signals": [SIGNAL], "sha256": ["hash"]},
        {**told, "op": "refused", "error": "EnqueueTimeout"},
    ]
    assert findings(judge(evidence(journal=journal), messages=set())) == {"wrong_status": 1}
    unsure = [journal[0], {**told, "op": "unknown"}, journal[1]]
    assert findings(judge(evidence(journal=unsure), messages=set())) == {}


def test_requests_are_found_wherever_the_pieces_are_cut() -> None:
    """Two requests on one connection are two, with the time of their first bytes."""
    one = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nX-Idempotency-Key: k1\r\n\r\nabc"
    two = one.replace(b"k1", b"k2")
    for size in (1, 7, 1000):
        requests, found = Requests(), []
        data = one + two
        for at, begin in enumerate(range(0, len(data), size)):
            found += requests.feed(data[begin : begin + size], float(at))
        assert [seen["x-idempotency-key"] for seen in found] == ["k1", "k2"]
        assert [seen["at"] for seen in found] == [0.0, float(len(one) // size)]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_mutation_still_fits_the_code(mutation: Mutation) -> None:
    """What a mutation changes stands exactly once in its file, so that it can be tried any time."""
    for change in mutation.changes:
        assert (ROOT / change.file).read_text().count(change.before) == 1, change.file
    assert placed(mutation.faults.split(","))


def test_a_seed_gives_one_schedule_with_every_kind_before_any_twice() -> None:
    """The same seed is the same run, and a run that is long enough leaves no kind out."""
    faults = schedule(7, 10_000, list(BY_NAME), every=5)
    assert faults == schedule(7, 10_000, list(BY_NAME), every=5)
    assert {fault.kind for fault in faults[: len(BY_NAME)]} == set(BY_NAME)


def test_a_schedule_can_be_given_instead_of_drawn() -> None:
    """Faults come at the seconds that are asked for, for as long, in the order of their times."""
    faults = placed(["kill_ops@9", "freeze_deliver@2.5+13"])
    assert [(f.kind, f.at, f.end) for f in faults] == [
        ("freeze_deliver", 2.5, 15.5),
        ("kill_ops", 9.0, 9.0),
    ]
