"""Settings, the operator's Telegram, and the disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlsplit

from signalpost.core.receipts import Refused
from signalpost.doctor.findings import Finding, failure, ok, skipped, warning
from signalpost.errors import SignalpostError
from signalpost.repository.default_endpoint import described_default
from signalpost.repository.health import ServerFacts
from signalpost.settings import Settings
from signalpost.telegram import Introduced, TelegramCourier

__all__ = [
    "lies_in_memory",
    "look_at_disk",
    "look_at_settings",
    "look_at_telegram",
    "of_disk",
]

ANSWER_SECONDS = 8.0
SCARCE_BYTES, LOW_BYTES = 200 * 1024**2, 2 * 1024**3

_FOLDER = "data folder "
_IN_MEMORY = ("tmpfs", "ramfs")


def look_at_settings(settings: Settings) -> Finding:
    """Whether a worker could start with them, and whether it would send."""
    try:
        described_default(settings)
    except SignalpostError as error:
        told, _, remedy = str(error).partition("; ")
        return failure("settings", told, remedy or "correct it, or no worker starts")
    if not settings.hmac_producer_enabled:
        return warning(
            "settings",
            "HMAC_PRODUCER_ENABLED is false: nothing is sent, signals wait and expire",
            "set it to true and start the workers again",
        )
    return ok("settings", f"read; the database is from {settings.database_source}")


async def look_at_telegram(settings: Settings) -> Finding:
    """Ask the Bot API who the bot is and whether it knows the chat; nothing is sent."""
    token, chat_id = settings.ops_telegram_bot_token, settings.ops_telegram_chat_id
    if token is None or chat_id is None:
        return warning(
            "telegram",
            "not set: alerts are lines in the ops worker's log only",
            "set OPS_TELEGRAM_BOT_TOKEN and OPS_TELEGRAM_CHAT_ID",
        )
    base_url = settings.ops_telegram_base_url
    async with TelegramCourier(
        token, chat_id, base_url=base_url, timeout_seconds=ANSWER_SECONDS
    ) as courier:
        match await courier.introduce():
            case Introduced(bot, chat):
                return ok("telegram", f"bot {bot} writes to {chat}")
            case Refused(reason):
                told, _, remedy = reason.partition("; ")
                return failure("telegram", told, remedy or "see whether its server is reachable")


def look_at_disk(settings: Settings, facts: ServerFacts | None) -> Finding:
    """The room left where the database lies, if that is on this machine."""
    place = _place(settings, facts)
    if place is None:
        size = "" if facts is None else f" (the database has {_shown(facts.database_bytes)})"
        return skipped("disk", f"the database lies elsewhere, or out of sight{size}")
    try:
        usage = shutil.disk_usage(place)
    except OSError as error:
        return skipped("disk", f"{place} cannot be looked at ({error.strerror})")
    return of_disk(place, usage.total, usage.free, in_memory=lies_in_memory(place, _mounts()))


def of_disk(place: Path, total: int, free: int, *, in_memory: bool) -> Finding:
    """What the room at a place means for the database in it.

    Args:
        place: where the database lies.
        total: the size of its file system, in bytes; 0 where that has no size of its own.
        free: what is left of it, in bytes.
        in_memory: whether that file system is lost with the machine's power.
    """
    told = f"{_shown(free)} free at {place}" if total else f"the file system of {place} has no size"
    if total and free < SCARCE_BYTES:
        return failure("disk", told, "make room: a full disk stops PostgreSQL")
    if in_memory:
        return warning(
            "disk",
            f"{told}; it lies in memory: every signal is lost with the machine's power",
            "keep the database on a disk",
        )
    if total and free < LOW_BYTES:
        return warning("disk", told, "make room before it is full")
    return ok("disk", told)


def lies_in_memory(place: Path, mounts: str) -> bool:
    """Whether the file system that holds `place` is one in memory; `mounts` as in /proc/mounts."""
    held = place.resolve()
    depth, kind = 0, ""
    for fields in map(str.split, mounts.splitlines()):
        point = Path(fields[1].replace("\\040", " ")) if len(fields) > 2 else None
        # Of two on one folder the later one is seen.
        if point is not None and held.is_relative_to(point) and len(point.parts) >= depth:
            depth, kind = len(point.parts), fields[2]
    return kind in _IN_MEMORY


def _mounts() -> str:
    try:
        return Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _place(settings: Settings, facts: ServerFacts | None) -> Path | None:
    if settings.database_source.startswith(_FOLDER):
        named = Path(settings.database_source.removeprefix(_FOLDER))
    elif facts is None or facts.data_directory is None or not _on_this_machine(settings):
        return None
    else:
        named = Path(facts.data_directory)
    # What the server calls by a descriptor of its own is another place to us.
    return None if named.is_relative_to("/proc") else named


def _on_this_machine(settings: Settings) -> bool:
    host = urlsplit(settings.database_url).hostname
    return host in (None, "localhost", "127.0.0.1", "::1")


def _shown(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB" if size >= 1024**3 else f"{size / 1024**2:.0f} MiB"
