"""Redis: whether it answers, may forget or refuse messages, and which workers hear it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import redis.asyncio
from redis.exceptions import AuthenticationError, RedisError

from signalpost.broker import ALERTS_QUEUE, DELIVER_QUEUE, DRAIN_QUEUE, UPKEEP_QUEUE
from signalpost.broker.nodes import nodes
from signalpost.database import password_free
from signalpost.doctor.findings import Finding, failure, ok, skipped, warning
from signalpost.errors import BrokerUnavailable
from signalpost.settings import Settings

__all__ = ["look_at_redis", "of_info", "of_nodes"]

ANSWER_SECONDS = 3.0
FULL = 0.9
"""Of its maxmemory."""

_LATER = "until then deliveries come from PostgreSQL, seconds later"


async def look_at_redis(settings: Settings) -> list[Finding]:
    """Look at the server, its policies, and the workers that answer by way of it."""
    if settings.redis_url is None:
        told = "not set: deliveries come from PostgreSQL, seconds later"
        return [
            warning("redis", told, "set REDIS_URL; Celery workers need one"),
            skipped("redis policy", "there is no Redis"),
            skipped("celery", "there is no Redis"),
        ]
    place = f"{password_free(settings.redis_url)} ({settings.redis_source})"
    try:
        info = await _info(settings.redis_url)
    except (RedisError, OSError, TimeoutError) as error:
        return [
            _refused(error, place),
            skipped("redis policy", "Redis does not answer"),
            skipped("celery", "Redis does not answer"),
        ]
    name = "valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version")
    found = [ok("redis", f"{name} {version} at {place}"), of_info(info)]
    try:
        answers = await asyncio.to_thread(nodes, settings.redis_url)
    except BrokerUnavailable as error:
        return [*found, failure("celery", str(error), "see Redis's log")]
    return [*found, of_nodes(answers)]


async def _info(url: str) -> Mapping[str, Any]:
    client = redis.asyncio.Redis.from_url(
        url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
    )
    try:
        found: Mapping[str, Any] = await client.info()
        return found
    finally:
        await client.aclose()


def _refused(error: Exception, place: str) -> Finding:
    text = str(error)
    if isinstance(error, AuthenticationError) or "NOAUTH" in text or "WRONGPASS" in text:
        return failure("redis", f"{place} refuses the password", "correct REDIS_URL")
    told = f"{place} does not answer ({type(error).__name__})"
    return failure("redis", told, f"start it, or correct REDIS_URL; {_LATER}")


def of_info(info: Mapping[str, Any]) -> Finding:
    """What Redis's INFO says of keeping what it is given: role, eviction, persistence."""
    check = "redis policy"
    policy = info.get("maxmemory_policy", "noeviction")
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if info.get("cluster_enabled"):
        return failure(check, "it is a Redis Cluster", "Celery needs a single Redis")
    if info.get("role") == "slave":
        return failure(
            check, "it is a replica and takes no messages", "set REDIS_URL to the primary"
        )
    for field, what in (
        ("rdb_last_bgsave_status", "its last snapshot failed"),
        ("aof_last_write_status", "its last write to the append-only file failed"),
    ):
        if info.get(field, "ok") != "ok":
            return failure(check, f"{what}, so it may refuse messages", "see its log and its disk")
    if policy != "noeviction":
        return warning(
            check,
            f"eviction is {policy}: with its memory full it forgets messages"
            + ("" if most else " (it has no maxmemory now)"),
            f"set maxmemory-policy noeviction; a message lost is only time: {_LATER}",
        )
    if most and used >= FULL * most:
        return warning(check, f"{used / most:.0%} of its maxmemory is used", "raise maxmemory")
    if info.get("aof_enabled"):
        kept = "append-only file on"
    elif int(info.get("rdb_last_save_time", 0)) and int(info.get("rdb_saves", 0)):
        kept = "snapshots only"
    else:
        kept = "nothing kept on disk: a restart costs seconds, no signal"
    return ok(check, f"noeviction; {kept}")


def of_nodes(answers: Mapping[str, frozenset[str]]) -> Finding:
    """Whether every queue has a worker that takes from it."""
    taken = frozenset().union(*answers.values())
    missing = [
        role
        for role, queues in (
            ("deliver", {DELIVER_QUEUE, DRAIN_QUEUE}),
            ("ops", {ALERTS_QUEUE, UPKEEP_QUEUE}),
        )
        if not queues <= taken
    ]
    names = ", ".join(sorted(answers)) or "none"
    if not missing:
        return ok("celery", f"workers that answer: {names}")
    roles = " and no ".join(missing)
    starts = " and ".join(f"`signalpost worker --role {role}`" for role in missing)
    told = f"no {roles} worker answers (those that do: {names})"
    if "ops" in missing:
        told += "; alerts are not sent"
    return failure("celery", told, f"start {starts}, or the stack by `signalpost up`")
