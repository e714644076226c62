from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from signalpost.core.outcomes import Answer, Failure, Phase
from signalpost.core.testsignal import TEST_ANSWER
from signalpost.doctor.findings import Finding, State
from signalpost.doctor.meanings import STOPPED, of_answer, of_certificate, of_connection

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def answered(code: int, *, excerpt: bytes = b"", date: str | None = None) -> Finding:
    answer = Answer(Phase.BODY, 0.25, status_code=code, excerpt=excerpt, date=date)
    return of_answer("desk", answer, now=NOW)


@pytest.mark.parametrize(
    ("code", "state", "told"),
    [
        (201, State.WARNING, "takes anything"),
        (204, State.WARNING, "takes anything"),
        (302, State.FAILURE, "redirects are never followed"),
        (308, State.FAILURE, "redirects are never followed"),
        (400, State.OK, "refused it, as it should"),
        (401, State.FAILURE, "does not accept the signature"),
        (403, State.FAILURE, "does not accept the signature"),
        (404, State.FAILURE, "nothing takes a POST"),
        (405, State.FAILURE, "nothing takes a POST"),
        (409, State.FAILURE, "a conflict"),
        (410, State.FAILURE, "nothing takes a POST"),
        (415, State.FAILURE, "refuses"),
        (422, State.OK, "refused it, as it should"),
        (429, State.WARNING, "asked later"),
        (500, State.FAILURE, "it fails"),
        (503, State.FAILURE, "it fails"),
    ],
)
def test_every_status_has_a_meaning(code: int, state: State, told: str) -> None:
    """A status says whether deliveries would do well, and what to do where they would not."""
    found = answered(code)

    assert found.state is state
    assert f"answered {code} in 0.25 s" in found.told
    assert told in found.told
    assert bool(found.remedy) == (state is not State.OK)


def test_the_kit_s_own_words_prove_the_signature() -> None:
    """A 200 is good where the kit says that it verified, and doubtful from anyone else."""
    kit = answered(200, excerpt=f'{{"message":"{TEST_ANSWER}"}}'.encode())

    assert (kit.state, kit.remedy) == (State.OK, "")
    assert answered(200, excerpt=b"ok").state is State.WARNING


@pytest.mark.parametrize(
    ("date", "told"),
    [
        ("Mon, 02 Mar 2026 12:00:10 GMT", "its clock agrees"),
        ("Mon, 02 Mar 2026 12:10:00 GMT", "its clock is 600 s ahead"),
        ("Mon, 02 Mar 2026 11:50:00 GMT", "its clock is 600 s behind"),
    ],
)
def test_a_refused_signature_tells_of_the_clock(date: str, told: str) -> None:
    """The answer's Date shows whether a clock is what makes the receiver refuse."""
    assert told in answered(401, date=date).told


@pytest.mark.parametrize("date", [None, "", "yesterday", "Mon, 02 Mar 2026 12:10:00"])
def test_a_date_that_says_nothing_is_no_matter(date: str | None) -> None:
    """A missing or odd Date is passed over."""
    assert "clock" not in answered(401, date=date).told


@pytest.mark.parametrize("reason", list(Failure))
def test_every_failure_has_a_meaning(reason: Failure) -> None:
    """An attempt without an answer is a failure with a remedy, whatever the reason."""
    answer = Answer(Phase.CONNECT, 0.25, failure=reason, detail="connection refused")
    found = of_answer("desk", answer, now=NOW)

    assert found.state is State.FAILURE
    assert found.remedy


def test_reaching_a_receiver_is_enough_where_nothing_is_posted() -> None:
    """An attempt stopped after the handshake is well; one that came less far is not."""
    reached = Answer(Phase.TLS, 0.25, failure=STOPPED)
    unreachable = Answer(Phase.DNS, 0.25, failure=Failure.DNS, detail="unknown name")

    good = of_connection("desk", reached, encrypted=True)
    bad = of_connection("desk", unreachable, encrypted=True)
    assert (good.state, good.told) == (
        State.OK,
        "DNS, TCP and TLS in 0.25 s; nothing was posted",
    )
    assert bad.line == (
        "its name cannot be resolved (unknown name); correct its URL, or the name server"
    )
    assert "TLS" not in of_connection("desk", reached, encrypted=False).told


@pytest.mark.parametrize(
    ("days", "state", "told"),
    [
        (15.0, State.OK, None),
        (14.0, State.OK, None),
        (13.9, State.WARNING, "its certificate ends in 13 days, on 2026-03-16 09:36:00Z"),
        (0.5, State.WARNING, "its certificate ends in 0 days"),
    ],
)
def test_a_certificate_that_ends_soon_is_a_warning(
    days: float, state: State, told: str | None
) -> None:
    """Under two weeks is told with the day and who must act; longer, or none, is not."""
    good = answered(422)
    found = of_certificate(good, NOW + timedelta(days=days), now=NOW)

    assert found.state is state
    assert (found == good) if told is None else (told in found.line and "renew" in found.line)
    assert of_certificate(good, None, now=NOW) == good


def test_a_certificate_never_hides_what_is_worse() -> None:
    """Where the receiver fails already, its state and its remedy stay; the certificate is added."""
    bad = answered(401)
    found = of_certificate(bad, NOW + timedelta(days=3), now=NOW)

    assert (found.state, found.remedy) == (State.FAILURE, bad.remedy)
    assert "ends in 3 days" in found.told


def test_an_answer_that_breaks_off_is_told() -> None:
    """A status whose body never came whole is a failure that names both."""
    answer = Answer(Phase.BODY, 0.25, status_code=200, failure=Failure.RESET)

    assert of_answer("desk", answer, now=NOW).told == (
        "answered 200, then broke off (connection_lost)"
    )
