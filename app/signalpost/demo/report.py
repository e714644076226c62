"""The demo's last page: what signalpost recorded beside what the others counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from signalpost.demo.crosscheck import Called
from signalpost.demo.latency import quiet_latency
from signalpost.demo.ledger import Receipt, Verdict, count_by_endpoint
from signalpost.demo.searching import Searched
from signalpost.repository.evidence import Evidence

__all__ = ["Result", "print_report"]

ALERTS_SHOWN = 2


@dataclass(frozen=True, slots=True)
class Result:
    """All that the demo ends with; ``alerts`` are the messages as the operator reads them."""

    evidence: Evidence
    called: Sequence[Called]
    ledger: Sequence[Receipt]
    alerts: Sequence[str]
    disagreements: Sequence[str]
    searched: Searched
    seconds: float

    @property
    def good(self) -> bool:
        """Whether both sides agree and nothing private was found."""
        return not self.disagreements and not self.searched.findings


def print_report(console: Console, result: Result) -> None:
    """Print the page."""
    console.print()
    console.print(_deliveries(result.evidence))
    console.print(_receiver(result.ledger))
    _print_figures(console, result)
    _print_alerts(console, result.alerts)
    _print_checks(console, result)


def _deliveries(evidence: Evidence) -> Table:
    columns = ("deliveries", "delivered", "dead", "expired", "attempts", "retries")
    table = _table("What signalpost recorded", *columns)
    for endpoint in sorted({fact.endpoint for fact in evidence.deliveries}):
        own = [fact for fact in evidence.deliveries if fact.endpoint == endpoint]
        attempts = [fact for fact in evidence.attempts if fact.endpoint == endpoint]
        status = Counter(fact.status for fact in own)
        reasons = Counter(fact.reason for fact in own if fact.status == "dead")
        retries = sum(fact.number > 1 for fact in attempts)
        dead = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common()) or 0
        ends = (status["delivered"], dead, status["expired"])
        table.add_row(endpoint, *map(str, (len(own), *ends, len(attempts), retries)))
    return table


def _receiver(ledger: Sequence[Receipt]) -> Table:
    counts = count_by_endpoint(ledger)
    seen = {verdict for count in counts.values() for verdict in count}
    shown = [verdict for verdict in Verdict if verdict in seen or verdict is not Verdict.OTHER]
    titles = {Verdict.FAILED: "failed (503)", Verdict.REFUSED: "refused (422)"}
    table = _table(
        "What the receiver counted on its own",
        *(titles.get(verdict, verdict.value) for verdict in shown),
    )
    for endpoint, count in sorted(counts.items()):
        table.add_row(endpoint, *(str(count[verdict]) for verdict in shown))
    return table


def _table(title: str, *numbers: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.pad_edge = False
    table.add_column("endpoint", no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _print_figures(console: Console, result: Result) -> None:
    evidence = result.evidence
    status = Counter(fact.status for fact in evidence.deliveries)
    retries = sum(fact.number > 1 for fact in evidence.attempts)
    lines = {
        "signals": f"{len(evidence.signal_ids)}, enqueued by the strategy in its own process",
        "deliveries": f"{len(evidence.deliveries)}: "
        + ", ".join(f"{number} {name}" for name, number in status.most_common()),
        "attempts": f"{len(evidence.attempts)}, of which {retries} retries",
        "latency": "not measured",
    }
    if latency := quiet_latency(result.called, result.ledger):
        lines["latency"] = (
            f"p50 {latency.p50 * 1000:.1f} ms, p99 {latency.p99 * 1000:.1f} ms from enqueue to "
            f"the receiver ({latency.count} deliveries, the outage left out)"
        )
    console.print()
    for name, value in lines.items():
        console.print(f"{name:<12}{value}", highlight=False, soft_wrap=True)


def _print_alerts(console: Console, alerts: Sequence[str]) -> None:
    console.print(f"{'alerts':<12}{len(alerts)}, as the operator reads them:", highlight=False)
    for alert in alerts[:ALERTS_SHOWN]:
        console.print()
        for line in alert.splitlines():
            console.print(Text(f"    {line}"), soft_wrap=True)
    if len(alerts) > ALERTS_SHOWN:
        console.print(f"\n    ... and {len(alerts) - ALERTS_SHOWN} more", highlight=False)


def _print_checks(console: Console, result: Result) -> None:
    console.print()
    for line in result.disagreements:
        _say(console, "WRONG", line, "red")
    if not result.disagreements:
        text = "the strategy, signalpost, the receiver and the Bot API agree on every delivery"
        _say(console, "ok", text, "green")
    searched = result.searched
    for finding in searched.findings:
        text = f"{finding.kind} found in {finding.place}, byte {finding.offset}"
        _say(console, "WRONG", text, "red")
    if not searched.findings:
        text = (
            f"nothing private found in {searched.log_bytes:,} bytes of logs, "
            f"{searched.redis_bytes:,} bytes of Redis commands, {searched.redis_keys} Redis keys, "
            f"{searched.tasks} tasks as Flower shows them, {searched.alerts} alerts"
        )
        _say(console, "ok", text, "green")
    _say(console, "ok" if result.good else "WRONG", f"done in {result.seconds:.0f} s", "bold")


def _say(console: Console, mark: str, text: str, style: str) -> None:
    console.print(Text(f"{mark:<6}{text}", style=style), soft_wrap=True)
