"""What a receiver's answer to a test, or its silence, means for an operator. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from signalpost.core.outcomes import Answer, Failure
from signalpost.core.testsignal import TEST_ANSWER
from signalpost.doctor.findings import Finding, State, failure, ok, warning

__all__ = ["STOPPED", "of_answer", "of_certificate", "of_connection"]

STOPPED = Failure.SHUTDOWN
"""What an attempt ends with that is stopped on purpose once the connection stands."""

_FAR_OFF_SECONDS = 60.0
_SOON = timedelta(days=14)

_UNANSWERED: dict[Failure, tuple[str, str]] = {
    Failure.DNS: ("its name cannot be resolved", "correct its URL, or the name server"),
    Failure.CONNECT: ("it cannot be reached", "see whether it is up, and what a firewall says"),
    Failure.TLS: ("TLS fails", "its owner must mend its certificate or TLS set-up"),
    Failure.ADDRESS: (
        "its address is refused",
        "correct its URL, or let OUTBOUND_ALLOW_NETWORKS hold the network",
    ),
    Failure.TIMEOUT: ("it did not answer in time", "see its log and load, or raise --timeout"),
    Failure.RESET: ("it cut the connection", "see its log"),
    Failure.PROTOCOL: ("what it answers is no HTTP", "see what listens there"),
    Failure.URL: ("its URL cannot be used", "correct it by `signalpost endpoint set NAME --url`"),
}

_UNSIGNED = (
    "it does not accept the signature",
    "compare the secrets (endpoint show --reveal-secret), the clocks, and the URLs",
)
_NO_SUCH_PATH = (
    "nothing takes a POST at that path",
    "correct its URL by `signalpost endpoint set NAME --url`",
)
_REFUSES = ("it, or a proxy before it, refuses", "see its log")

_FAILED: dict[int, tuple[str, str]] = {
    401: _UNSIGNED,
    403: _UNSIGNED,
    404: _NO_SUCH_PATH,
    405: _NO_SUCH_PATH,
    409: ("a conflict, with an id that is new", "see its log"),
    410: _NO_SUCH_PATH,
    3: ("it redirects, and redirects are never followed", "set its URL to where it redirects to"),
    5: ("it fails, or a proxy before it does", "see its log"),
}
"""By status, else by its hundreds."""


def of_connection(check: str, answer: Answer, *, encrypted: bool) -> Finding:
    """What it means to have resolved, connected and encrypted, and then sent nothing."""
    if answer.failure is STOPPED:
        steps = "DNS, TCP and TLS" if encrypted else "DNS and TCP (plain http)"
        told = f"{steps} in {answer.duration_seconds:.2f} s; nothing was posted"
        return ok(check, told)
    return _silence(check, answer)


def of_answer(check: str, answer: Answer, *, now: datetime) -> Finding:
    """What the answer to a signed test means.

    Args:
        check: the finding's name.
        answer: what came back.
        now: this machine's time, aware.
    """
    if answer.status_code is None:
        return _silence(check, answer)
    if answer.failure is not None:
        told = f"answered {answer.status_code}, then broke off ({answer.failure})"
        return failure(check, told, "see its log")
    return _status(check, answer.status_code, answer, now)


def of_certificate(found: Finding, end: datetime | None, *, now: datetime) -> Finding:
    """The same finding, and a warning where the receiver's certificate ends within two weeks.

    One that is over needs no look: TLS itself fails by it.

    Args:
        found: what is known of the receiver.
        end: until when its certificate is valid, aware; None where it showed none.
        now: this machine's time, aware.
    """
    if end is None or end - now >= _SOON:
        return found
    told = f"{found.told}; its certificate ends in {max((end - now).days, 0)} days"
    told += f", on {end:%Y-%m-%d %H:%M:%SZ}"
    if found.state is not State.OK:
        return replace(found, told=told)
    return warning(found.check, told, "its owner must renew it: after that nothing is delivered")


def _status(check: str, code: int, answer: Answer, now: datetime) -> Finding:
    told = f"answered {code} in {answer.duration_seconds:.2f} s"
    if 200 <= code < 300:
        if TEST_ANSWER.encode() in answer.excerpt:
            return ok(check, f"{told}: the receiver kit has verified the signature")
        return warning(
            check,
            f"{told}: it took a test for a signal, or takes anything",
            "its owner should see that it verifies signatures and refuses what is no signal",
        )
    if code in (400, 422):
        return ok(
            check,
            f"{told}: it read the test and refused it, as it should "
            "(one that looks at the body first answers so with any secret)",
        )
    if code in (408, 425, 429):
        return warning(check, f"{told}: it wants to be asked later", "try again")
    meaning, remedy = _FAILED.get(code) or _FAILED.get(code // 100, _REFUSES)
    if code in (401, 403):
        meaning += _clock(answer, now)
    return failure(check, f"{told}: {meaning}", remedy)


def _silence(check: str, answer: Answer) -> Finding:
    if answer.failure is None or answer.failure not in _UNANSWERED:
        told = f"no answer ({answer.failure}) in phase {answer.phase}"
        return failure(check, told, "run it again with --debug, and report this")
    told, remedy = _UNANSWERED[answer.failure]
    detail = f" ({answer.detail})" if answer.detail else ""
    return failure(check, f"{told}{detail}", remedy)


def _clock(answer: Answer, now: datetime) -> str:
    try:
        theirs = parsedate_to_datetime(answer.date or "")
        off = (theirs - now).total_seconds()
    except (TypeError, ValueError):
        return ""
    if abs(off) < _FAR_OFF_SECONDS:
        return ", and its clock agrees with this one"
    return f", and its clock is {abs(off):.0f} s {'ahead' if off > 0 else 'behind'}"
