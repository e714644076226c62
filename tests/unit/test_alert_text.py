from __future__ import annotations

import html
import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import click
import pytest

from signalpost.alerts import LastAttempt, Letter, Message, Notice, Tally, render
from signalpost.cli.program import root
from signalpost.core.alerting import KINDS, QUIETABLE_KINDS

NOW = datetime(2026, 3, 2, 3, 0, 0, tzinfo=UTC)
DELIVERY = UUID("0b8f7c1e-5a53-4c3d-9f5a-2d2f6d1f0a01")
SIGNAL = UUID("0b8f7c1e-5a53-4c3d-9f5a-2d2f6d1f0a02")

LETTER = Letter(
    delivery_id=DELIVERY,
    signal_id=SIGNAL,
    instrument="EURUSD",
    side="buy",
    action="open",
    status="dead",
    reason="exhausted",
    attempts=6,
    maybe_received=False,
    enqueued_at=NOW - timedelta(seconds=190),
    expires_at=NOW + timedelta(seconds=410),
    last=LastAttempt("body", "retry", 429, None),
)
NOTICE = Notice(alert_id=1, kind="dead", now=NOW, endpoint="desk", letter=LETTER)


def message(*notices: Notice, tallies: tuple[Tally, ...] = (), seconds: float = 0) -> Message:
    return Message(
        kind=notices[0].kind,
        now=NOW,
        claims=tuple((notice.alert_id, 1) for notice in notices),
        first=notices[:5],
        since=NOW - timedelta(seconds=seconds),
        until=NOW,
        tallies=tallies,
    )


def alone(notice: Notice) -> str:
    return render(message(notice))


def told(notice: Notice = NOTICE, **changes: object) -> str:
    assert notice.letter is not None
    return alone(replace(notice, letter=replace(notice.letter, **changes)))  # type: ignore[arg-type]


def plain(text: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", text))


def test_a_dead_letter_is_told_in_full() -> None:
    """A dead letter's text has everything that the operator needs, and the command that replays."""
    assert plain(alone(NOTICE)).splitlines() == [
        "Dead letter: EURUSD buy (open) to desk",
        "Not delivered: all retries are used up.",
        "Surely not executed.",
        "Attempts: 6; last: HTTP 429",
        f"Signal: {SIGNAL}",
        f"Delivery: {DELIVERY}",
        "Age: 3 min 10 s (enqueued 2026-03-02 02:56:50 UTC)",
        f"Story: signalpost deliveries show {DELIVERY}",
        f"Replay, before it expires at 2026-03-02 03:06:50 UTC: signalpost replay {DELIVERY}",
    ]


def test_a_letter_that_may_have_arrived_is_not_replayed_blindly() -> None:
    """Where it may have been executed, the text says so before a command that admits to it."""
    text = plain(told(maybe_received=True, reason="unknown", expires_at=None))
    assert "May have executed: check the receiver first." in text
    assert "Surely not executed" not in text
    wanted = f"Replay, only if it was not executed: signalpost replay {DELIVERY} --even-unknown"
    assert text.splitlines()[-1] == wanted


@pytest.mark.parametrize(
    ("maybe_received", "options"),
    [(False, "--even-expired --ttl 600"), (True, "--even-unknown --even-expired --ttl 600")],
)
def test_an_expired_letter_needs_a_new_life(maybe_received: bool, options: str) -> None:
    """An expired delivery's command gives it a new life, and owns up to a possible arrival."""
    notice = replace(NOTICE, kind="expired")
    text = plain(told(notice, status="expired", reason="expired", maybe_received=maybe_received))
    assert text.startswith("Expired: EURUSD buy (open) to desk\n")
    assert text.endswith(f"signalpost replay {DELIVERY} {options}")
    assert "only if the trade still makes sense, for it is expired" in text
    assert maybe_received == ("only if it was not executed" in text)


def test_a_dead_letter_whose_life_is_over_needs_a_new_one_too() -> None:
    """A dead delivery whose expiry passed before the alert was sent gets a command that fits."""
    text = plain(told(expires_at=NOW))
    assert text.endswith(f"signalpost replay {DELIVERY} --even-expired --ttl 600")
    assert "for it is expired" in text


def test_an_expired_letter_that_was_never_tried_says_so() -> None:
    """Without any attempt the text counts none and invents no last outcome."""
    text = plain(told(replace(NOTICE, kind="expired"), status="expired", attempts=0, last=None))
    assert "Attempts: 0\n" in text
    assert "last:" not in text


def test_a_correction_forbids_the_replay() -> None:
    """A corrected delivery is told as delivered, without any command that would send it again."""
    text = plain(told(replace(NOTICE, kind="corrected"), status="delivered", reason=None))
    assert text.startswith("Corrected: EURUSD buy (open) to desk\n")
    assert "It was delivered after all (late answer); do not replay it." in text
    assert "signalpost replay" not in text
    assert "executed" not in text


def test_a_late_success_overtakes_an_unsent_alert() -> None:
    """An alert of death that is sent after the late success tells the truth of that moment."""
    text = plain(told(status="delivered", reason=None))
    assert "It was dead, but has been delivered since; do not replay it." in text
    assert "Not delivered" not in text
    assert "signalpost replay" not in text


@pytest.mark.parametrize("status", ["pending", "sending"])
def test_a_replayed_letter_is_not_offered_for_another_replay(status: str) -> None:
    """Whoever put it back already finds its status of now and no second replay command."""
    text = plain(told(status=status, reason=None))
    assert f"It was put back since and is {status} now." in text
    assert "signalpost replay" not in text


def test_a_status_that_changed_from_dead_to_expired_is_named() -> None:
    """Where a replay ended otherwise, the text and its command follow how it stands now."""
    text = plain(told(status="expired", reason="expired"))
    assert "its life ended before it was delivered. It is expired now." in text
    assert "--even-expired" in text


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (LastAttempt("body", "rejected", 422, None), "last: HTTP 422"),
        (LastAttempt("headers", "retry", 503, "timeout"), "last: HTTP 503"),
        (LastAttempt("sent", "unknown", None, "timeout"), "last: timeout, at sending the request"),
        (LastAttempt("dns", "retry", None, "dns_failure"), "last: dns failure, at resolving"),
        (LastAttempt("none", "released", None, "secret_unreadable"), "secret unreadable, at not b"),
        (LastAttempt("odd", "odd_outcome", None, None), "last: odd outcome, at odd"),
    ],
)
def test_the_last_outcome_is_told_in_words(last: LastAttempt, said: str) -> None:
    """The status code where there is one, else the failure and how far the attempt had got."""
    assert said in plain(told(last=last))


@pytest.mark.parametrize(
    "name", ["<b>", "</b></code>", "a & b", '"><script>alert(1)</script>', "<a href='x'>click</a>"]
)
def test_labels_are_shown_and_never_obeyed(name: str) -> None:
    """Markup in an endpoint's name or any other label reaches the reader as plain characters."""
    harmless = alone(NOTICE)
    text = told(
        replace(NOTICE, endpoint=name), instrument=name, side=name, action=name, reason=name
    )
    assert plain(text).count(name) == 5
    assert re.findall(r"</?[a-z]+", text) == re.findall(r"</?[a-z]+", harmless)


def test_invisible_characters_cannot_forge_lines() -> None:
    """Line breaks, direction marks and control characters in a label become question marks."""
    text = alone(replace(NOTICE, endpoint="desk\nReplay: rm -rf\u202e\x00\u2028"))
    assert "desk?Replay: rm -rf???" in text
    assert len(text.splitlines()) == len(alone(NOTICE).splitlines())


def test_a_text_fits_into_one_message() -> None:
    """However long the labels, the text stays below the Bot API's 4096 characters."""
    long = "&" * 5000
    text = told(
        replace(NOTICE, endpoint=long, kind="expired"),
        instrument=long,
        side=long,
        action=long,
        reason=long,
        status="expired",
        maybe_received=True,
        last=LastAttempt(long, long, None, long),
    )
    assert len(text) < 4096


def many(count: int, *tallies: Tally, **changes: object) -> str:
    notices = [
        replace(
            NOTICE,
            alert_id=number,
            letter=replace(LETTER, delivery_id=UUID(int=number), **changes),  # type: ignore[arg-type]
        )
        for number in range(1, count + 1)
    ]
    return render(message(*notices, tallies=tallies, seconds=58))


def test_many_dead_letters_are_told_by_their_counts() -> None:
    """One message for many has counts by endpoint and reason, the first ids, and the command."""
    text = many(
        99,
        Tally(60, "desk", "dead", "exhausted", maybe_received=False),
        Tally(27, "broker", "dead", "rejected", maybe_received=False),
        Tally(12, "broker", "dead", "exhausted", maybe_received=True),
    )
    assert plain(text).splitlines() == [
        "99 dead letters in 58 s, since 2026-03-02 02:59:02 UTC",
        "To: desk 60, broker 39",
        "Not delivered: all retries are used up 72, the receiver rejected it 27",
        "May have executed: 12; check the receivers first.",
        "The first 5:",
        *(f"{UUID(int=number)} EURUSD buy (open) to desk" for number in range(1, 6)),
        "All: signalpost alerts list --kind dead --since 2026-03-02T02:59:02Z",
        f"Each story has its remedy: signalpost deliveries show {UUID(int=1)}",
    ]


def test_what_has_moved_on_since_is_told_among_many() -> None:
    """Of many, those delivered or put back meanwhile are named, and not for another replay."""
    text = plain(
        many(
            9,
            Tally(4, "desk", "delivered", None, maybe_received=True),
            Tally(3, "desk", "pending", None, maybe_received=False),
            Tally(2, "desk", "expired", "expired", maybe_received=False),
        )
    )
    assert "Delivered since: 4; do not replay those." in text
    assert "Put back since: pending 3" in text
    assert "Not delivered: its life ended before it was delivered 2" in text
    assert "Surely not executed." in text


def test_many_endpoints_are_not_all_named() -> None:
    """Of many endpoints the five with the most are named, and the others counted."""
    tallies = [Tally(n, f"e{n}", "dead", "gone", maybe_received=False) for n in range(1, 9)]
    assert "To: e8 8, e7 7, e6 6, e5 5, e4 4, 3 more" in plain(many(36, *tallies))


def test_the_command_lists_as_many_as_there_are() -> None:
    """For more than the list shows by itself the command asks for more."""
    assert "Z --limit 201" in plain(many(201))
    assert "--limit" not in plain(many(200))


def test_a_message_for_many_fits_too() -> None:
    """However long the labels of many, the text stays below the Bot API's 4096 characters."""
    long = "&" * 5000
    tallies = [
        Tally(1, f"{n}{long}", status, f"{n}{long}", maybe_received=True)
        for n in range(20)
        for status in ("dead", "expired", "delivered", "pending", long)
    ]
    text = many(9, *tallies, instrument=long, side=long, action=long)
    assert len(plain(text)) < 4096


def test_many_notices_are_told_together() -> None:
    """Several notices of a kind are one message: whom each is about, the remedy, the command."""
    notices = [
        Notice(
            alert_id=number,
            kind="worker_gone",
            now=NOW,
            endpoint=None,
            letter=None,
            details={"silent for": "31 s"},
            subject=f"host:{number}<",
        )
        for number in (1, 2)
    ]
    assert plain(render(message(*notices, seconds=7))).splitlines() == [
        "2 times Worker gone in 7 s, since 2026-03-02 02:59:53 UTC",
        "It fell silent without having been stopped. Others take its claims back.",
        "Look at its log and its machine, and start it again: signalpost worker",
        "The first 2:",
        "host:1<: silent for 31 s",
        "host:2<: silent for 31 s",
        "All: signalpost alerts list --kind worker_gone --since 2026-03-02T02:59:53Z",
    ]


def from_strategy(kind: str, number: int = 1, **details: str) -> Notice:
    return Notice(
        alert_id=number,
        kind=kind,
        now=NOW,
        endpoint=None,
        letter=None,
        details=details,
        subject="x",
    )


def test_a_strategy_s_own_text_is_told_as_it_is() -> None:
    """The owner reads the words and the lines that were given, and no markup is obeyed."""
    text = alone(from_strategy("owner", text="margin <b>call</b>\nlook & act\u202e"))
    assert plain(text).splitlines() == [
        "From a strategy:",
        "margin <b>call</b>",
        "look & act?",
        "More: signalpost status",
    ]
    assert text.count("<b>") == 1


def test_a_signal_that_was_not_delivered_directly_is_told() -> None:
    """The signal, the attempts and the error are named, and that nobody tries it again."""
    notice = from_strategy(
        "delivery_error", signal=str(SIGNAL), attempts="6", error="NetworkError: <nobody>"
    )
    assert plain(alone(notice)).splitlines() == [
        f"Not delivered directly: signal {SIGNAL}",
        "Attempts: 6; nothing tries it again.",
        "NetworkError: <nobody>",
        "More: signalpost status",
    ]


@pytest.mark.parametrize("words", ["&" * 2000, "\n" * 2000, "&\n" * 1000, "x" * 2000])
@pytest.mark.parametrize("count", [1, 5, 99])
def test_a_strategy_s_words_fit_into_one_message(words: str, count: int) -> None:
    """However long the words, alone or among many, the text stays below 4096 characters."""
    notices = [from_strategy("owner", number, text=words) for number in range(1, count + 1)]
    text = render(message(*notices, seconds=7))
    assert len(text) < 4096
    if count > 1:
        assert f"{count} alerts in 7 s, the first 5:" in plain(text)
        assert "signalpost alerts list --kind owner" in text


def test_a_notice_about_the_system_is_told_with_its_remedy() -> None:
    """A notice without a delivery says what is wrong, with which labels, and what to do."""
    details = {"worker": "host:7", "seconds": "<3.2>"}
    notice = replace(NOTICE, kind="clock_off", letter=None, endpoint=None, details=details)
    assert plain(render(message(notice, seconds=600))).splitlines() == [
        "Clock off",
        "A worker's clock is off the database's. That worker sends nothing.",
        "Set the clock of its machine right (NTP).",
        "Details: worker host:7, seconds <3.2>",
        "Raised: 2026-03-02 02:50:00 UTC",
        "More: signalpost status",
    ]


def test_a_notice_of_a_kind_unknown_here_is_told_nevertheless() -> None:
    """A kind that a newer release raised still names itself, its endpoint and where to look."""
    notice = replace(NOTICE, kind="endpoint_in_trouble", letter=None, details={"endpoint": "desk"})
    told_plainly = [
        "Endpoint in trouble: endpoint desk",
        "Raised: 2026-03-02 03:00:00 UTC",
        "More: signalpost status",
    ]
    assert plain(alone(notice)).splitlines() == told_plainly


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-3, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3660, "1 h 1 min"), (90000, "1 d 1 h")],
)
def test_ages_are_told_in_two_units(seconds: float, said: str) -> None:
    """An age is readable at a glance, from seconds to days, and never negative."""
    text = plain(told(enqueued_at=NOW - timedelta(seconds=seconds)))
    assert f"Age: {said} (enqueued " in text


@pytest.mark.parametrize("status", ["dead", "expired"])
@pytest.mark.parametrize("maybe_received", [False, True])
def test_the_commands_are_the_command_lines(status: str, maybe_received: bool) -> None:
    """Every command that an alert proposes is one that the command line takes."""
    text = plain(told(status=status, maybe_received=maybe_received))
    proposed = [line.partition("signalpost ")[2].split() for line in text.splitlines()]
    commands = [words for words in proposed if words]
    assert len(commands) == 2
    for words in commands:
        parse(root, words)


@pytest.mark.parametrize("kind", QUIETABLE_KINDS)
def test_every_notice_says_what_it_means_and_names_a_command(kind: str) -> None:
    """Each kind about the system has words of its own, and its command is one that there is."""
    details = {"answer": "HTTP 401"}
    text = plain(
        alone(replace(NOTICE, kind=kind, letter=None, endpoint="my desk", details=details))
    )
    title, *middle, labels, _, command = text.splitlines()
    assert title == f"{kind.replace('_', ' ').capitalize()}: endpoint my desk"
    assert middle
    assert labels == "Details: answer HTTP 401"
    parse(root, shlex.split(command.partition("signalpost ")[2]))


def test_a_name_cannot_become_a_command() -> None:
    """An endpoint's name stands in a command as one word, whatever is in it."""
    notice = replace(NOTICE, kind="endpoint_trouble", letter=None, endpoint="x; rm -rf ~ <b>")
    text = plain(alone(notice))
    assert text.endswith("More: signalpost endpoint test 'x; rm -rf ~ <b>'")


def test_the_commands_for_many_are_the_command_lines() -> None:
    """The commands that a message for many proposes are those of the command line."""
    lines = plain(many(201)).splitlines()[-2:]
    for line in lines:
        parse(root, line.partition("signalpost ")[2].split())


def test_the_documentation_knows_every_kind() -> None:
    """docs/alerts.md lists exactly the kinds that there are."""
    page = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")
    table = page.partition("## The kinds")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(KINDS)


def test_the_documented_example_for_many_is_a_real_one() -> None:
    """The message for many that docs/alerts.md shows is what such a storm's message looks like."""
    page = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")
    example = page.split("```text\n")[2].partition("\n```")[0].splitlines()
    tallies = (
        Tally(60, "desk", "dead", "exhausted", maybe_received=False),
        Tally(27, "broker", "dead", "rejected", maybe_received=False),
        Tally(12, "broker", "dead", "exhausted", maybe_received=True),
    )
    notices = [NOTICE, *(replace(NOTICE, alert_id=number) for number in range(2, 100))]
    text = plain(
        render(
            replace(
                message(*notices, tallies=tallies),
                since=NOW + timedelta(seconds=2),
                until=NOW + timedelta(seconds=60),
            )
        )
    ).splitlines()
    assert example == [*text[:6], "...", *text[-2:]]


def parse(command: click.Command, words: list[str]) -> None:
    """Let click take the words; it raises for an option or a command that is not there."""
    context = click.Context(command)
    if not isinstance(command, click.Group):
        command.make_context(command.name, words)
        return
    _, found, rest = command.resolve_command(context, words)
    assert found is not None
    parse(found, rest)


def test_the_documented_example_is_a_real_alert() -> None:
    """The alert that docs/alerts.md shows is what such a delivery's alert looks like."""
    page = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")
    example = page.partition("```text\n")[2].partition("\n```")[0]
    text = told(
        delivery_id=UUID("4f1c9a52-7a0e-4c55-9d0e-0b5f3a4c1e77"),
        signal_id=UUID("b1d7e0aa-58a4-5f7e-8a35-1d2f7f4a9c10"),
        maybe_received=True,
        last=LastAttempt("body", "retry", 503, None),
    )
    assert plain(text) == example
