from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from signalpost.logs import Seldom
from signalpost.reports import Report, unclaimed_report
from signalpost.repository.claimed import Unclaimed

ID = UUID(int=5)


def test_a_trouble_that_lasts_is_told_seldom() -> None:
    """At its beginning, once in so many seconds, and anew as soon as it had been over."""
    seldom = Seldom(60)
    assert [seldom.lets(now) for now in (100, 100.2, 159.9, 160, 161)] == [
        *(True, False, False, True, False)
    ]
    seldom.over()
    assert seldom.lets(162)


PROGRAM = """
import asyncio, logging, sys
from signalpost.logs import configure_logging, speak_of
configure_logging(int(sys.argv[2]), as_json=sys.argv[1] == "json")
ours = logging.getLogger("signalpost.x")
async def attempt(number):
    speak_of(delivery=f"d{number}", signal=f"s{number}", endpoint="desk", attempt=number)
    await asyncio.sleep(0)
    logging.getLogger("some.library").warning("delivery=%s took a turn", f"d{number}")
async def main():
    await asyncio.gather(*(attempt(number) for number in (1, 2)))
    ours.info("whole %s", "line", extra={"facts": {"delivery": 5, "message": "not this one"}})
    try:
        raise ValueError("wrong")
    except ValueError:
        ours.error("bad", exc_info=True)
    for name in sys.argv[3:]:
        logging.getLogger(name).info("POST https://example.org/bot-token")
asyncio.run(main())
"""

PRINT_URLS = ("httpx", "httpcore.http11", "aiohttp.client", "telegram.Bot", "telegram.request")
PRINT_MORE = ("urllib3.connectionpool", "kombu.transport", "sqlalchemy.engine", "celery.app.trace")


def logged(form: str, level: int = logging.INFO) -> list[str]:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, form, str(level), *PRINT_URLS, *PRINT_MORE],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return found.stderr.splitlines()


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_urls_of_libraries_are_silenced(level: int) -> None:
    """Whatever the level, no line of a library that prints URLs, statements or tokens appears."""
    assert not [line for line in logged("text", level) if "bot-token" in line]


def test_a_line_of_text_says_when_in_utc_and_what_about() -> None:
    """The ids of a task stand on its lines, once each, be they logged by whatever module."""
    first, second, plain, *_ = logged("text")
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    for number, line in ((1, first), (2, second)):
        rest = rf"delivery=d{number} took a turn signal=s{number} endpoint=desk attempt={number}"
        assert re.fullmatch(rf"{moment} WARNING some\.library: {rest}", line)
    assert re.fullmatch(rf"{moment} INFO    signalpost\.x: whole line", plain)


def test_a_line_of_json_has_its_ids_as_fields() -> None:
    """Each line is one object; what it is about are its fields, which change none of the others."""
    lines = [json.loads(line) for line in logged("json")]
    for line in lines:
        assert datetime.fromisoformat(line.pop("time")).utcoffset() == timedelta(0)
    about = {"delivery": "d1", "signal": "s1", "endpoint": "desk", "attempt": 1}
    source = {"level": "WARNING", "logger": "some.library"}
    assert lines[0] == {**source, "message": "delivery=d1 took a turn", **about}
    source = {"level": "INFO", "logger": "signalpost.x"}
    assert lines[2] == {**source, "message": "whole line", "delivery": 5}
    assert lines[3].pop("traceback").endswith("ValueError: wrong")
    assert lines[3] == {"level": "ERROR", "logger": "signalpost.x", "message": "bad"}
    assert len(lines) == 4


def test_a_report_is_one_line_of_ids_and_labels() -> None:
    """The line names the delivery and leaves out what is not known."""
    report = Report(ID, "retry", "http_503", instrument="IBM", attempt=2, retry_in_seconds=10.24)
    assert report.line() == (
        f"delivery={ID} instrument=IBM attempt=2 outcome=retry detail=http_503 retry_in=10.2s"
    )


def test_every_reason_for_not_claiming_has_its_words() -> None:
    """A message that finds nothing to claim says in Flower why."""
    said = {
        unclaimed_report(Unclaimed(ID, status, due)).detail
        for status, due in [
            (None, None),
            ("sending", None),
            ("pending", 3.0),
            ("pending", -1.0),
            ("delivered", None),
        ]
    }
    assert said == {
        "no such delivery",
        "another claim is under way",
        "not due yet",
        "another worker is at it",
        "finished already",
    }
    assert unclaimed_report(Unclaimed(ID, "pending", 3.0)).retry_in_seconds == 3.0
