"""`signalpost endpoint set` and `remove`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from signalpost.cli import values
from signalpost.cli.completing import endpoint_names
from signalpost.cli.endpoints.describing import policy_facts, public
from signalpost.cli.endpoints.group import endpoint, reason_option, secret_box
from signalpost.cli.endpoints.policy import (
    either_retries,
    given_headers,
    given_policy,
    policy_options,
)
from signalpost.cli.joining import (
    actor,
    examples,
    find_settings,
    json_option,
    shared_options,
    transaction,
)
from signalpost.cli.printing import facts, note, print_json

if TYPE_CHECKING:
    from signalpost.repository.endpoints import EndpointView
    from signalpost.settings import Settings

__all__ = ["remove", "set_command"]

DEFAULT = "default"
"""As a value: from now on the setting's."""


@endpoint.command(
    "set",
    epilog=examples(
        "signalpost endpoint set desk --timeout 10s --ttl 2m",
        "signalpost endpoint set desk --url https://desk.example/v2/signals --reason 'new server'",
        "signalpost endpoint set desk --max-retries default --rate none --instrument all",
    ),
)
@click.argument("name", shell_complete=endpoint_names)
@click.option("--url", metavar="URL", help="Where it is from now on, also for what waits already.")
@click.option("--timeout", metavar="SPAN|default", help="Of one attempt: 5s to 300s.")
@click.option("--max-retries", metavar="N|default", help="Retries after the first attempt.")
@click.option("--retry-delay", metavar="SPAN|default", help="Before the first retry.")
@click.option("--ttl", metavar="SPAN|default", help="How long its new signals live.")
@click.option(
    "--on-unknown",
    type=click.Choice(["retry", "stop"]),
    help="Where nobody can tell whether the receiver got it.",
)
@policy_options
@click.option("--drop-header", "dropped", multiple=True, metavar="NAME", help="Send it no more.")
@reason_option
@json_option
@shared_options
def set_command(
    *,
    name: str,
    dropped: Sequence[str],
    reason: str,
    as_json: bool,
    data: Path | None,
    **policy: Any,
) -> None:
    """Change an endpoint; what is not named stays, and `default` takes the settings' value.

    A filter that is given replaces the one before, and `all` takes it away; `none` takes a limit
    away. --ordered counts for what is enqueued from then on.
    It counts from the next attempt on, in every worker, without a restart, and is audited.
    """
    from signalpost.repository.endpoint_changes import change_endpoint

    changes = _changes(policy)
    headers: dict[str, str | None] = {**dict.fromkeys(dropped), **given_headers(policy)}
    if not changes and not headers:
        raise click.UsageError("name at least one thing to change, such as --timeout 10s")
    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        before, after = change_endpoint(
            conn,
            name,
            changes,
            settings,
            box=secret_box(settings) if headers else None,
            headers=headers,
            actor=actor(),
            why=reason,
        )
    if before != after:
        _let_go(settings, before, after)
    if as_json:
        print_json(public(after, after.created_at) | {"changed": before != after})
        return
    _show_difference(before, after, settings)


def _changes(given: Mapping[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {
        f"{option.replace('-', '_')}_seconds": _span(option, text)
        for option in ("timeout", "retry-delay", "ttl")
        if (text := given[option.replace("-", "_")]) is not None
    }
    if given["max_retries"] is not None:
        changes["max_retries"] = _whole(given["max_retries"])
    changes |= {name: given[name] for name in ("url", "on_unknown") if given[name] is not None}
    changes |= given_policy(given)
    either_retries(changes)
    return changes


def _show_difference(before: EndpointView, after: EndpointView, settings: Settings) -> None:
    if before == after:
        click.echo(f"endpoint {after.name} is so already; nothing to change")
        return
    old = {"url": before.url, **dict(policy_facts(before, settings))}
    new = {"url": after.url, **dict(policy_facts(after, settings))}
    different = [
        (field, f"{old[field]} -> {new[field]}") for field in new if old[field] != new[field]
    ]
    if before.headers != after.headers and before.headers.keys() == after.headers.keys():
        different.append(("extra headers", "a new value"))
    click.echo(f"endpoint {after.name} changed")
    facts(different)


@endpoint.command(
    "remove",
    epilog=examples(
        "signalpost endpoint remove desk",
        "signalpost endpoint remove desk --yes --reason 'the desk has closed'",
    ),
)
@click.argument("name", shell_complete=endpoint_names)
@click.option("--yes", is_flag=True, help="Also where deliveries are still on their way to it.")
@reason_option
@json_option
@shared_options
def remove(*, name: str, yes: bool, reason: str, as_json: bool, data: Path | None) -> None:
    """Remove an endpoint: no signal that is enqueued from now on goes to it.

    What waits for it already keeps being delivered, by its policy, until it is delivered, dead or
    expired; so where something waits, that is told, and --yes is wanted.
    """
    from signalpost.repository.endpoint_changes import remove_endpoint

    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        removal = remove_endpoint(conn, name, settings, even_waiting=yes, actor=actor(), why=reason)
    waiting = f"{removal.pending} deliveries wait for it and {removal.sending} are under way"
    if as_json:
        print_json(
            {
                "name": name,
                "removed": removal.removed,
                "pending": removal.pending,
                "sending": removal.sending,
                "dead_letters": removal.dead_letters,
            }
        )
    elif removal.removed:
        click.echo(f"endpoint {name} removed; nothing new goes to it")
        note("what a strategy's open transaction has stored for it already may still go")
        if removal.waiting:
            click.echo(f"{waiting}: they keep being delivered until their end")
        if removal.dead_letters:
            note(f"its {removal.dead_letters} dead letters can be replayed no more")
    if not removal.removed:
        raise click.ClickException(
            f"{name} was not removed: {waiting}; with --yes it is, and they keep being delivered "
            f"until their end (if they shall not: `signalpost cancel --endpoint {name}` first)"
        )


def _let_go(settings: Settings, before: EndpointView, after: EndpointView) -> None:
    """What the change lets go is looked at now."""
    from signalpost.broker import Broker
    from signalpost.repository.unblocking import unblock_endpoint

    if before.on_dead == "block" and after.on_dead == "skip":
        # In a transaction of its own: keys are locked before endpoints, everywhere.
        with transaction(settings) as conn:
            unblock_endpoint(conn, after.id)
    broker = Broker(settings.redis_url)
    broker.ring()
    broker.close()


def _span(option: str, text: str) -> float | None:
    if text == DEFAULT:
        return None
    try:
        return values.span(text)
    except click.BadParameter as error:
        raise click.BadParameter(
            f"{error.message}, or {DEFAULT}", param_hint=f"'--{option}'"
        ) from None


def _whole(text: str) -> int | None:
    if text == DEFAULT:
        return None
    try:
        return int(text)
    except ValueError:
        raise click.BadParameter(
            f"write a whole number, or {DEFAULT}", param_hint="'--max-retries'"
        ) from None
