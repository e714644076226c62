"""The demo's last page says plainly what is wrong, and its result says whether all is well."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from signalpost.demo.ledger import Receipt, Verdict
from signalpost.demo.privacy import Finding
from signalpost.demo.report import Result, print_report
from signalpost.demo.searching import Searched
from signalpost.repository.evidence import Evidence

SEARCHED = Searched(1000, 2000, 3, 4, 5, ())
GOOD = Result(Evidence(frozenset(), (), (), ()), [], [], [], [], SEARCHED, 12.0)


def _page(result: Result) -> str:
    written = io.StringIO()
    print_report(Console(file=written, width=100), result)
    return written.getvalue()


def test_a_good_run_says_what_was_agreed_and_searched() -> None:
    """Without disagreement or finding the page has two lines of agreement and the amounts."""
    page = _page(GOOD)

    assert GOOD.good
    assert "agree on every delivery" in page
    assert "nothing private found in 1,000 bytes of logs, 2,000 bytes of Redis commands" in page
    assert "WRONG" not in page


def test_each_disagreement_is_a_line() -> None:
    """A disagreement is shown as it is, and makes the result a bad one."""
    bad = replace(GOOD, disagreements=["desk: 2 attempts were sent, 3 arrived"])

    assert not bad.good
    assert "WRONG desk: 2 attempts were sent, 3 arrived" in _page(bad)
    assert "agree on every delivery" not in _page(bad)


def test_each_finding_is_a_line_that_spills_nothing() -> None:
    """A finding is shown by kind, place and byte, and makes the result a bad one."""
    finding = Finding("price", "log worker.log", 17)
    bad = replace(GOOD, searched=replace(SEARCHED, findings=(finding,)))

    assert not bad.good
    assert "WRONG price found in log worker.log, byte 17" in _page(bad)
    assert "nothing private found" not in _page(bad)


def test_an_unforeseen_answer_of_the_receiver_gets_a_column() -> None:
    """What the receiver counted under another verdict is shown too, not left out."""
    other = replace(GOOD, ledger=[Receipt(1.0, "desk", Verdict.OTHER, "", "")])

    assert "other" in _page(other)
    assert "other" not in _page(GOOD)


def test_only_the_first_alerts_are_shown_whole() -> None:
    """The operator's first two messages are shown, the others counted."""
    page = _page(replace(GOOD, alerts=["first\nline two", "second", "third", "fourth"]))

    assert "    line two" in page
    assert "third" not in page
    assert "... and 2 more" in page
