from __future__ import annotations

import re
import subprocess
import sys
from uuid import UUID

from signalpost.reports import Report, unclaimed_report
from signalpost.repository.claims import Unclaimed

ID = UUID(int=5)

PROGRAM = """
import logging
from signalpost.logs import configure_logging
configure_logging()
logging.getLogger("signalpost.x").info("delivery=%s", 5)
logging.getLogger("httpx").info("HTTP Request: POST https://example.org/bot-token")
logging.getLogger("celery.app.trace").info("Task succeeded")
"""


def test_log_lines_carry_utc_time_and_urls_of_libraries_are_silenced() -> None:
    """One line in the common form; the HTTP library's, which would hold a token, is not there."""
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    (line,) = found.stderr.splitlines()
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    signalpost\.x: delivery=5"
    assert re.fullmatch(pattern, line)


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
