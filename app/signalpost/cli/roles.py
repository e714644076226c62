"""The processes of a stack: what each role runs. The worker package is only ever started, by name.

Passwords go by the environment, since everybody on a machine can read another's arguments.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from typing import Literal, get_args

from signalpost.clock import SILENCE_SECONDS

__all__ = ["QUEUES", "ROLES", "Role", "celery_argv", "flower_environment"]

Role = Literal["deliver", "ops", "beat", "flower"]
ROLES: tuple[Role, ...] = get_args(Role)

# Alerts and upkeep never wait behind deliveries: they have a process of their own.
QUEUES = {"deliver": "deliver,drain", "ops": "alerts,upkeep"}
_CONCURRENCY = {"deliver": 64, "ops": 4}

_CELERY = (sys.executable, "-m", "signalpost_worker", "--quiet", "-A", "signalpost_worker.celery")


def celery_argv(
    role: Role,
    *,
    name: str | None = None,
    concurrency: int | None = None,
) -> list[str]:
    """The command line of a role.

    Args:
        role: which.
        name: of the node; unique by itself, since Celery does not notice two of one name.
        concurrency: threads of a worker; a deliver worker has a thread for each `deliver` message
            that it waits for.
    """
    if role == "beat":
        # In memory: what it drives may come late, so there is no state worth a file.
        return [*_CELERY, "beat", "--loglevel", "INFO", "--scheduler", "celery.beat:Scheduler"]
    if role == "flower":
        return [
            *_CELERY,
            "flower",
            "--read_only=True",
            "--tasks_columns=name,uuid,state,args,kwargs,result,received,started,runtime,worker",
            "--logging=error",
        ]
    threads = concurrency or _CONCURRENCY[role]
    return [
        *_CELERY,
        "worker",
        "--hostname",
        f"{name or f'{role}-{os.getpid()}-{secrets.token_hex(3)}'}@%h",
        "--pool",
        "threads",
        "--concurrency",
        str(threads),
        "--queues",
        QUEUES[role],
        "--loglevel",
        "INFO",
        "--without-gossip",
        "--without-mingle",
        # Flower takes a worker for gone after two of them: when the others do, too (clock.py).
        "--heartbeat-interval",
        str(round(SILENCE_SECONDS / 2)),
    ]


def flower_environment(user: str, password: str, *, port: int = 5555) -> Mapping[str, str]:
    """The environment of a Flower on the loopback interface that asks for user and password."""
    return {
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_PORT": str(port),
        "FLOWER_BASIC_AUTH": f"{user}:{password}",
    }
