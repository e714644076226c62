"""PostgreSQL and what stands in it: server, tables, clock, secrets, workers, what waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from signalpost.cli.explaining import explain
from signalpost.clock import CLOCK_TOLERANCE_SECONDS
from signalpost.database import async_engine, check_schema, password_free
from signalpost.doctor.findings import Finding, failure, ok, skipped, warning
from signalpost.errors import EndpointError, SchemaError, SecretError
from signalpost.repository.endpoint_rules import NewEndpoint, check_policy
from signalpost.repository.endpoints import EndpointView, list_endpoints
from signalpost.repository.health import ServerFacts, server_facts
from signalpost.repository.overview import Overview, overview
from signalpost.repository.reading import database_time
from signalpost.secretbox import SecretBox, unseal
from signalpost.settings import Settings

__all__ = ["DEPENDENT", "Outbox", "look_at_outbox", "of_clock", "of_overview", "of_server"]

OLDEST_RELEASE = 150_000
CONNECT_SECONDS = 4.0
STALLED_SECONDS = 60.0
UNSENT_SECONDS = 300.0
CROWDED = 0.9
"""Of all connections that the server allows."""

DEPENDENT = ("schema", "clock", "secrets", "workers", "deliveries", "alerts")
"""The checks that need a database that answers."""


@dataclass(slots=True)
class Outbox:
    """What was found, and what later checks go on with: empty and None where it is not known."""

    findings: list[Finding] = field(default_factory=list)
    facts: ServerFacts | None = None
    views: list[EndpointView] = field(default_factory=list)
    now: datetime | None = None


async def look_at_outbox(settings: Settings) -> Outbox:
    """Look at the database, step by step; nothing is written. Raises nothing of SQLAlchemy's."""
    found = Outbox()
    engine = async_engine(
        settings.database_url, connect_timeout=CONNECT_SECONDS, pool_timeout=CONNECT_SECONDS
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_look, settings, found)
    except (SQLAlchemyError, OSError) as error:
        _give_up(found, error)
    finally:
        await engine.dispose()
    return found


def _look(conn: Connection, settings: Settings, found: Outbox) -> None:
    began = datetime.now(UTC)
    facts = found.facts = server_facts(conn)
    took = (datetime.now(UTC) - began).total_seconds()
    place = password_free(settings.database_url).replace("postgresql+psycopg", "postgresql", 1)
    found.findings += of_server(facts, f"{place} ({settings.database_source})", took)
    try:
        check_schema(conn)
    except SchemaError as error:
        told, _, remedy = str(error).partition("; ")
        found.findings.append(failure("schema", told, remedy))
        found.findings += [skipped(name, "the tables are not usable") for name in DEPENDENT[1:]]
        return
    found.findings.append(ok("schema", "the tables are those of this release"))
    before = datetime.now(UTC)
    now = found.now = database_time(conn)
    found.findings.append(of_clock(before, now, datetime.now(UTC)))
    found.views = list_endpoints(conn)
    found.findings.append(_of_secrets(found.views, settings))
    found.findings += _of_policies(found.views, settings)
    found.findings += of_overview(overview(conn), enabled=settings.hmac_producer_enabled)


def _give_up(found: Outbox, error: Exception) -> None:
    """Say what broke, and that the rest could not be looked at."""
    told, _, remedy = explain(error).partition("; ")
    found.findings.append(failure("database", told, remedy))
    known = {finding.check for finding in found.findings}
    found.findings += [
        skipped(name, "the database does not answer") for name in DEPENDENT if name not in known
    ]


def of_server(facts: ServerFacts, place: str, took: float) -> list[Finding]:
    """What the server says of itself."""
    told = f"PostgreSQL {facts.version} at {place}, {took * 1000:.0f} ms"
    findings = []
    if facts.version_number < OLDEST_RELEASE:
        findings.append(failure("database", told, "PostgreSQL must be 15 or newer: upgrade it"))
    elif facts.read_only:
        findings.append(
            failure("database", f"{told}: it is read-only", "point DATABASE_URL at the primary")
        )
    elif facts.connections >= CROWDED * facts.max_connections:
        crowd = f"{facts.connections} of {facts.max_connections} connections are in use"
        findings.append(warning("database", f"{told}: {crowd}", "raise max_connections"))
    else:
        findings.append(ok("database", told))
    lacking = [
        name
        for name in ("fsync", "full_page_writes", "synchronous_commit")
        if not getattr(facts, name)
    ]
    if lacking:
        findings.append(
            failure(
                "durability",
                f"{' off, '.join(lacking)} off: a crash of its machine loses signals",
                "turn that on in PostgreSQL's configuration",
            )
        )
    else:
        findings.append(ok("durability", "a commit is on the disk before it is confirmed"))
    return findings


def of_clock(before: datetime, database: datetime, after: datetime) -> Finding:
    """This machine's clock against the database's, which was read between `before` and `after`."""
    ahead = (before - database).total_seconds()
    behind = (database - after).total_seconds()
    off = max(ahead, behind, 0.0)
    if off <= CLOCK_TOLERANCE_SECONDS:
        return ok("clock", "this machine's agrees with the database's")
    side = "ahead of" if ahead > 0 else "behind"
    return failure(
        "clock",
        f"this machine's clock is {off:.1f} s {side} the database's: a worker here sends nothing",
        "set both machines by NTP",
    )


def _of_secrets(views: list[EndpointView], settings: Settings) -> Finding:
    if not settings.secret_keys:
        return failure(
            "secrets",
            "SECRET_KEYS is not set: no worker here can sign",
            "set it to the keys of this database",
        )
    box = SecretBox(settings.secret_keys)
    unreadable = [view.name for view in views if not _readable(view, box)]
    if unreadable:
        return failure(
            "secrets",
            f"those of {', '.join(unreadable)} cannot be decrypted with any of SECRET_KEYS",
            "add the key that they were encrypted with, or give them new ones by "
            "`signalpost endpoint rotate-secret NAME --grace 0`",
        )
    return ok("secrets", f"all {len(views)} endpoints' secrets can be decrypted")


def _readable(view: EndpointView, box: SecretBox) -> bool:
    try:
        for ciphertext in filter(None, (view.secret_ciphertext, view.previous_secret_ciphertext)):
            box.decrypt(ciphertext)
        unseal(view.headers, box)
    except SecretError:
        return False
    return True


def _of_policies(views: list[EndpointView], settings: Settings) -> list[Finding]:
    findings = []
    for view in views:
        own = NewEndpoint(
            name=view.name,
            url=view.url,
            secret="",
            timeout_seconds=view.timeout_seconds,
            max_retries=view.max_retries,
            retry_delay_seconds=view.retry_delay_seconds,
            retry_schedule_seconds=view.retry_schedule_seconds,
            ttl_seconds=view.ttl_seconds,
        )
        try:
            check_policy(own, settings)
        except EndpointError as error:
            told, _, remedy = str(error).partition("; ")
            findings.append(warning(f"policy of {view.name}", told, remedy))
    return findings


def of_overview(seen: Overview, *, enabled: bool) -> list[Finding]:
    """Who works, what waits too long, and which alerts have not been sent."""
    alive = [worker for worker in seen.workers if worker.alive]
    silent = [worker.name for worker in seen.workers if not worker.alive]
    start = "start one by `signalpost worker`, or the stack by `signalpost up`"
    if not alive:
        workers = failure("workers", "no deliver worker is alive: nothing is sent", start)
    elif silent:
        told = f"{len(alive)} deliver workers alive, silent: {', '.join(silent)}"
        workers = warning("workers", told, "see their logs; their claims are taken back")
    else:
        workers = ok("workers", f"{len(alive)} deliver workers alive")
    return [workers, _of_waiting(seen, enabled=enabled), _of_alerts(seen)]


def _of_waiting(seen: Overview, *, enabled: bool) -> Finding:
    oldest = seen.oldest_due_seconds or 0.0
    if not seen.overdue:
        return ok("deliveries", f"{seen.due} due, none of them late")
    told = f"{seen.overdue} are due and not taken, the oldest for {oldest:.0f} s"
    remedy = (
        "see the workers above and their logs"
        if enabled
        else "HMAC_PRODUCER_ENABLED is false here: nothing is sent, they wait and expire"
    )
    late = failure if oldest >= STALLED_SECONDS else warning
    return late("deliveries", told, remedy)


def _of_alerts(seen: Overview) -> Finding:
    oldest = seen.oldest_alert_seconds or 0.0
    if oldest < UNSENT_SECONDS:
        return ok("alerts", f"{seen.alerts_unsent} unsent, none of them for long")
    return failure(
        "alerts",
        f"{seen.alerts_unsent} are unsent, the oldest for {oldest:.0f} s",
        "see whether an ops worker runs, and what it logs",
    )
