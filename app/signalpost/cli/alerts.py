"""`signalpost alerts`: what the operator was told, told again, and whether it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from signalpost.cli import values
from signalpost.cli.joining import (
    actor,
    examples,
    find_settings,
    json_option,
    shared_options,
    transaction,
)
from signalpost.cli.printing import age, note, print_json, table
from signalpost.core.alerting import KINDS

if TYPE_CHECKING:
    from signalpost.alerts import Receipt, Refused
    from signalpost.repository.alert_lines import AlertLine, Resent
    from signalpost.settings import Settings

__all__ = ["alerts"]


@click.group(short_help="Alerts: list them, send them again, test that they arrive.")
def alerts() -> None:
    """Alerts: what the operator is told by Telegram, or in the ops worker's log."""


@alerts.command(
    "list",
    epilog=examples(
        "signalpost alerts list --unsent",
        "signalpost alerts list --kind dead --since 2026-03-02T03:00:00Z",
        "signalpost alerts list --since 1d --json",
    ),
)
@click.option("--unsent", is_flag=True, help="Only those that have not reached the operator.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS))
@click.option(
    "--since",
    type=values.moment,
    metavar="TIME",
    help="Only those raised since: 10m, 2h, 1d, or a time with its zone.",
)
@click.option("--limit", type=click.IntRange(1, 100_000), default=200, show_default=True)
@json_option
@shared_options
def list_command(
    *,
    unsent: bool,
    kinds: Sequence[str],
    since: datetime | None,
    limit: int,
    as_json: bool,
    data: Path | None,
) -> None:
    """List alerts, the newest first.

    Alerts that went out in one message have the same receipt: the message's id.
    """
    from signalpost.repository.alert_lines import list_alerts
    from signalpost.repository.reading import database_time

    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        found = list_alerts(conn, unsent=unsent, kinds=kinds, since=since, limit=limit)
        now = database_time(conn)
    if as_json:
        print_json([asdict(line) for line in found])
        return
    table(
        ("alert", "kind", "age", "about", "now", "sent"),
        [_row(line, now) for line in found],
        empty="no alerts here; `signalpost alerts list` without options shows all",
    )
    if len(found) == limit:
        note("there may be older ones: --limit shows more")


@alerts.command("resend", epilog=examples("signalpost alerts resend 4711 4712"))
@click.argument("ids", type=values.alert_id, nargs=-1, required=True, metavar="ID...")
@json_option
@shared_options
@click.pass_context
def resend_command(
    ctx: click.Context, *, ids: Sequence[int], as_json: bool, data: Path | None
) -> None:
    """Let alerts be sent once more, by the ops worker, told as things stand then.

    ID is an alert's id, as `signalpost alerts list` shows it. The exit code is 1 where one of them
    was refused; the others are sent all the same.
    """
    from signalpost.alerts import pace_for
    from signalpost.repository.alert_lines import resend

    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        answers = resend(conn, ids, actor=actor(), quiet=pace_for(settings).hushed)
    taken = [answer.alert_id for answer in answers if answer.refusal is None]
    if taken:
        _announce(settings, taken)
    if as_json:
        print_json([asdict(answer) for answer in answers])
    else:
        _show(answers, settings)
    ctx.exit(0 if len(taken) == len(answers) else 1)


@alerts.command("test", epilog=examples("signalpost alerts test"))
@json_option
@shared_options
def test_command(*, as_json: bool, data: Path | None) -> None:
    """Send a test message to the operator's chat now, and show its receipt.

    It is sent from here, as the ops worker sends alerts, and needs neither it nor the database.
    """
    from signalpost.alerts import Receipt
    from signalpost.errors import AlertError

    settings = find_settings(data, servers=False)
    if settings.ops_telegram_bot_token is None:
        raise AlertError(
            "Telegram is not set up, each alert is a line in the ops worker's log; "
            "set OPS_TELEGRAM_BOT_TOKEN and OPS_TELEGRAM_CHAT_ID"
        )
    answer = asyncio.run(_send_test(settings))
    if not isinstance(answer, Receipt):
        pause = answer.retry_after_seconds
        raise AlertError(
            answer.reason if pause is None else f"{answer.reason}; try again in {age(pause)}"
        )
    if as_json:
        print_json({"receipt": answer.text, "chat": settings.ops_telegram_chat_id})
    else:
        click.echo(f"sent to chat {settings.ops_telegram_chat_id}, receipt {answer.text}")


async def _send_test(settings: Settings) -> Receipt | Refused:
    from signalpost.alerts import courier_for, trial_text

    async with courier_for(settings) as courier:
        return await courier.deliver(trial_text(actor()))


def _announce(settings: Settings, alert_ids: Sequence[int]) -> None:
    from signalpost.broker import Broker

    broker = Broker(settings.redis_url)
    try:
        # Where Redis is away the ops worker finds them by itself, a second later.
        broker.announce_alerts(alert_ids)
    finally:
        broker.close()


def _row(line: AlertLine, now: datetime) -> tuple[object, ...]:
    if line.delivery_id is not None:
        about = f"{line.delivery_id} {line.instrument} {line.side} to {line.endpoint}"
    else:
        about = _about(line)
    if line.sent_at is not None:
        sent = f"receipt {line.receipt}"
    else:
        sent = f"unsent after {line.tries} tries" + (f": {line.error}" if line.error else "")
    return (
        line.alert_id,
        line.kind,
        age((now - line.created_at).total_seconds()),
        about,
        line.status,
        sent,
    )


def _about(line: AlertLine) -> str:
    """What it is about, then what is known of it; nothings are left out."""
    details = dict(line.details)
    # An act on an endpoint names it in its own words.
    named = details.pop("what", None) or line.endpoint or line.subject
    labels = (
        name.replace("_", " ") + ("" if str(value) == "True" else f" {value}")
        for name, value in details.items()
        if str(value) not in ("", "None", "False")
    )
    return "; ".join(filter(None, (named, *labels)))


def _show(answers: Sequence[Resent], settings: Settings) -> None:
    window = age(settings.alert_window_seconds)
    table(
        ("alert", "kind", "receipt before", "result"),
        [
            (a.alert_id, a.kind, a.receipt, a.refusal or f"goes out within {window}")
            for a in answers
        ],
        empty="",
    )
