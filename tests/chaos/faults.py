"""How each kind of fault is done to the stage, and healed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from redis.exceptions import RedisError

from signalpost.demo.telegram_standin import BAD_GATEWAY
from tests.chaos.plan import ENDPOINTS
from tests.chaos.stage import Kept, Stage

Heal = Callable[[], object]


def nothing() -> None:
    """What happens at once needs no healing."""


def begin(kind: str, stage: Stage) -> Heal:
    """Do a fault; return what heals it."""
    family, _, rest = kind.partition("_")
    if family == "receiver":
        return _receiver(stage, rest)
    if family == "link":
        link, _, fault = rest.partition("_")
        return _link(stage, link, fault)
    return _KINDS[kind](stage)


def _receiver(stage: Stage, mode: str) -> Heal:
    endpoint = stage.chance.choice(ENDPOINTS)
    share = stage.chance.choice([0.3, 1.0])
    stage.receivers.order(endpoint=endpoint, mode=mode, share=share)
    return lambda: stage.receivers.order(endpoint=endpoint, mode="ok")


def _link(stage: Stage, link: str, fault: str) -> Heal:
    name = stage.chance.choice(ENDPOINTS) if link == "receiver" else link
    # Slow: so long that what was claimed with some seconds to live has none when it is known.
    seconds = 3.0 if fault == "slow" else 0.05
    fault = "delay" if fault == "slow" else fault
    stage.links.order(link=name, fault=fault, seconds=seconds)
    if fault == "reset":
        return nothing
    return lambda: stage.links.order(link=name, fault="none")


def _kill(kept: Kept, number: signal.Signals) -> Heal:
    with suppress(ProcessLookupError):
        os.kill(kept.program.pid, number)
    return nothing


def _freeze(pid: int) -> Heal:
    os.kill(pid, signal.SIGSTOP)

    def thaw() -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    return thaw


def _freeze_redis(stage: Stage) -> Heal:
    assert stage.redis.process is not None
    return _freeze(stage.redis.process.pid)


def _redis_lost(stage: Stage, *, keep_data: bool) -> Heal:
    stage.lose_redis(keep_data=keep_data)
    return stage.redis.start


def _redis_does(*command: str) -> Callable[[Stage], Heal]:
    def act(stage: Stage) -> Heal:
        with suppress(RedisError), stage.redis_client() as client:
            client.execute_command(*command)
        return nothing

    return act


def _postgres(number: signal.Signals) -> Callable[[Stage], Heal]:
    def act(stage: Stage) -> Heal:
        stage.stop_postgres(number)
        return stage.postgres.start

    return act


def _read_only(stage: Stage) -> Heal:
    def turn(state: str) -> None:
        with stage.admin() as connection:
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {state}")
            connection.execute("SELECT pg_reload_conf()")

    turn("on")
    return lambda: turn("off")


def _telegram(stage: Stage) -> Heal:
    stage.telegram.standin.fail_until_healed(BAD_GATEWAY)
    return stage.telegram.standin.heal


def _strategy(stage: Stage) -> Heal:
    name = stage.chance.choice(sorted(stage.strategies))
    return _kill(stage.strategies[name], signal.SIGKILL)


_KINDS: dict[str, Callable[[Stage], Heal]] = {
    "kill_deliver": lambda stage: _kill(stage.delivering(), signal.SIGKILL),
    "term_deliver": lambda stage: _kill(stage.delivering(), signal.SIGTERM),
    "kill_ops": lambda stage: _kill(stage.workers["ops"], signal.SIGKILL),
    "kill_beat": lambda stage: _kill(stage.workers["beat"], signal.SIGKILL),
    "freeze_deliver": lambda stage: _freeze(stage.delivering().program.pid),
    "freeze_redis": _freeze_redis,
    "kill_redis_keep_data": lambda stage: _redis_lost(stage, keep_data=True),
    "kill_redis_lose_data": lambda stage: _redis_lost(stage, keep_data=False),
    "redis_gone": lambda stage: _redis_lost(stage, keep_data=True),
    "redis_flushall": _redis_does("FLUSHALL"),
    "redis_client_kill": _redis_does("CLIENT", "KILL", "TYPE", "normal"),
    "redis_client_pause": _redis_does("CLIENT", "PAUSE", "3000", "ALL"),
    "postgres_fast": _postgres(signal.SIGINT),
    "postgres_immediate": _postgres(signal.SIGQUIT),
    "postgres_crash": _postgres(signal.SIGKILL),
    "postgres_read_only": _read_only,
    "telegram_down": _telegram,
    "kill_strategy": _strategy,
}
