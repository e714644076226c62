from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import pytest

from signalpost.core.alerting import ENDS, LOUD_KINDS, Pace, lately, may_begin
from signalpost.core.outcomes import Answer, Phase
from signalpost.core.refusals import refusal
from signalpost.core.troubles import Changes, Key, Known, Patience, Trouble, compare

NOW = datetime(2026, 3, 2, 3, 0, 0, tzinfo=UTC)
DESK = Trouble("endpoint_trouble", "7", 7, {"failed attempts": "9"})
REDIS = Trouble("redis_gone")


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def known(trouble: Trouble, *, seen: float = 5, told: float = 60) -> Known:
    return Known(trouble, began_at=ago(told), told_at=ago(told), seen_at=ago(seen))


def changes(
    standing: list[Known],
    found: list[Trouble],
    *,
    well: Collection[Key] = (),
    judged: Collection[str] = tuple(ENDS),
) -> Changes:
    return compare(standing, found, well=well, judged=judged, now=NOW, calm_seconds=90)


def test_a_new_trouble_begins_and_a_known_one_is_only_seen() -> None:
    """What is found for the first time is told, what was told already is not."""
    found = changes([known(DESK)], [DESK, REDIS])
    assert (found.begun, found.seen) == ([REDIS], [DESK])
    assert (found.lasting, found.over, found.forgotten) == ([], [], [])


def test_a_trouble_is_over_only_on_evidence_and_after_a_calm() -> None:
    """Neither silence alone nor one good moment ends it; both together do."""
    standing = known(DESK, seen=90)
    assert changes([standing], []).over == []
    assert changes([known(DESK, seen=89)], [], well={DESK.key}).over == []
    assert changes([standing], [DESK], well={DESK.key}).over == []
    assert changes([standing], [], well={DESK.key}).over == [standing]


def test_what_could_not_be_looked_at_does_not_end() -> None:
    """A kind that was not judged this time stays as it is."""
    assert changes([known(REDIS, seen=900)], [], well={REDIS.key}, judged=()).over == []


def test_a_long_trouble_is_told_again_after_hours() -> None:
    """What still lasts is told once more after six hours, except where that helps nobody."""
    gone = Trouble("worker_gone", "w")
    standing = [known(DESK, told=6 * 3600), known(REDIS, told=6 * 3600 - 1)]
    found = changes([*standing, known(gone, told=7 * 3600)], [DESK, REDIS, gone])
    assert found.lasting == [standing[0]]


def test_an_end_that_nobody_needs_to_hear_of_is_forgotten() -> None:
    """A refusal's end, and a trouble unseen for a day, leave without a word."""
    refuses = Trouble("endpoint_refuses", "7", 7)
    ended = known(refuses, seen=100)
    old = known(DESK, seen=24 * 3600)
    found = changes([ended, old], [], well={refuses.key}, judged=(*ENDS, "endpoint_refuses"))
    assert (found.over, found.forgotten) == ([], [ended, old])


def test_a_blip_is_waited_out() -> None:
    """Only what was found in every look for long enough is let through."""
    patience = Patience({"redis_gone": 15.0})
    assert patience.lasting([REDIS, DESK], ago(20)) == [DESK]
    assert patience.lasting([REDIS], ago(6)) == []
    assert patience.lasting([REDIS], ago(5)) == [REDIS]
    assert patience.lasting([], ago(4)) == []
    assert patience.lasting([REDIS], NOW) == []


def test_patience_survives_a_clock_that_is_set_back() -> None:
    """A trouble first found at a later time than now counts from now."""
    patience = Patience({"redis_gone": 15.0})
    assert patience.lasting([REDIS], NOW + timedelta(days=1)) == []
    assert patience.lasting([REDIS], NOW) == []
    assert patience.lasting([REDIS], NOW + timedelta(seconds=15)) == [REDIS]


@pytest.mark.parametrize(
    ("date", "said"),
    [
        ("Mon, 02 Mar 2026 03:00:12 GMT", "10 s ahead of the database's"),
        ("Mon, 02 Mar 2026 02:00:02 -0000", "3600 s behind the database's"),
        ("yesterday", None),
        ("Mon, 02 Mar 99999 03:00:12 GMT", None),
        (None, None),
    ],
)
def test_a_refusal_tells_the_receivers_clock(date: str | None, said: str | None) -> None:
    """The answer's Date, where it has a good one, is told as a difference of clocks."""
    answer = Answer(Phase.BODY, 2.0, status_code=401, date=date)
    expected = {"answer": "HTTP 401", **({"receiver's clock": said} if said else {})}
    assert refusal(answer, NOW) == expected


@pytest.mark.parametrize("status", [None, 200, 400, 410, 429, 503])
def test_other_answers_are_no_refusal(status: int | None) -> None:
    """Only 401, 403 and 404 are told in this way."""
    assert refusal(Answer(Phase.BODY, 0.1, status_code=status), NOW) is None


def test_the_rate_counts_the_last_minute() -> None:
    """A message may begin while fewer than allowed were begun in the minute before."""
    pace = Pace(messages_per_minute=2)
    assert may_begin(pace, [ago(60), ago(59)], None, NOW)
    assert not may_begin(pace, [ago(59), ago(1)], None, NOW)
    assert may_begin(pace, [NOW + timedelta(seconds=9)] * 5, None, NOW)
    assert lately([ago(61), ago(60), ago(59), NOW], NOW) == [ago(59), NOW]


def test_a_pause_is_kept_unless_it_cannot_be_meant() -> None:
    """Telegram's pause holds until its end; one of more than an hour is of another clock."""
    assert not may_begin(Pace(), [], NOW + timedelta(seconds=1), NOW)
    assert may_begin(Pace(), [], NOW, NOW)
    assert may_begin(Pace(), [], NOW + timedelta(seconds=3601), NOW)


def test_quiet_troubles_end_quietly_and_dead_letters_never() -> None:
    """With a trouble its end is quiet; no kind about a delivery ever is."""
    pace = Pace(quiet_kinds=frozenset({"stalled", *LOUD_KINDS}))
    assert pace.hushed == {"stalled", "moving"}
