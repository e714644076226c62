"""What happens in the demo, in numbers, and the settings that all its processes run under."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from signalpost.demo.receiver_process import Plan
from signalpost.errors import SignalpostError
from signalpost.repository.endpoints import NewEndpoint, new_secret
from signalpost.settings import PREFIX, Settings

__all__ = ["DESK", "FARAWAY", "JOURNAL", "Scenario", "strategy_script"]

DESK, JOURNAL, FARAWAY = "desk", "journal", "faraway"
PRODUCER_ID = "demo-strategy"
CHAT_ID = "4711"

_OTHER_VARIABLES = ("DATA_DIR", "HEARTBEAT_URL", "METRICS_PORT", "SHUTDOWN_SECONDS")


@dataclass(frozen=True, slots=True)
class Scenario:
    """The demo's course; every secret is made anew for each run.

    The desk gets every signal, fails from its request number ``fail_at`` on for ``fail_seconds``,
    and refuses one for good; the journal gets every signal too and never fails; behind faraway,
    which gets the few strong ones, nothing listens: some use up their retries, then its breaker
    opens and the others wait until their short life is over.
    """

    days_per_second: float = 50.0
    retry_delay_seconds: float = 0.5
    max_retries: int = 3
    fail_at: int = 150
    fail_seconds: float = 2.5
    refuse_at: int = 40
    faraway_ttl_seconds: float = 10.0
    endpoint_secrets: dict[str, str] = field(
        default_factory=lambda: {name: new_secret() for name in (DESK, JOURNAL, FARAWAY)},
        repr=False,
    )
    telegram_token: str = field(
        default_factory=lambda: f"{10**9}:{secrets.token_urlsafe(24)}", repr=False
    )

    def receiver_plan(self) -> Plan:
        """What the demo's receiver is told: the endpoints that it serves, and its misfortunes."""
        return Plan(
            secrets={name: self.endpoint_secrets[name] for name in (DESK, JOURNAL)},
            misbehaving=DESK,
            fail_at=self.fail_at,
            fail_seconds=self.fail_seconds,
            refuse_at=self.refuse_at,
        )

    def endpoints(self, receiver_port: int, closed_port: int) -> list[NewEndpoint]:
        """The three endpoints, as an operator would add them."""
        ports = {DESK: receiver_port, JOURNAL: receiver_port, FARAWAY: closed_port}
        return [
            NewEndpoint(
                name,
                f"http://127.0.0.1:{port}/{name}",
                self.endpoint_secrets[name],
                max_retries=self.max_retries,
                retry_delay_seconds=self.retry_delay_seconds,
                ttl_seconds=self.faraway_ttl_seconds if name == FARAWAY else None,
            )
            for name, port in ports.items()
        ]

    def settings(self, folder: Path, telegram_url: str) -> dict[str, str]:
        """Environment variables for every process of the demo.

        Each variable that the demo does not use is set to nothing, so that neither the caller's
        environment nor a ``.env`` file says where the demo's signals and alerts go.
        """
        ours = {
            "DATA_DIR": str(folder),
            "PRODUCER_ID": PRODUCER_ID,
            "OUTBOUND_ALLOW_NETWORKS": "127.0.0.0/8",
            "OUTBOUND_TIMEOUT_SECONDS": "5",
            "OPS_TELEGRAM_BOT_TOKEN": self.telegram_token,
            "OPS_TELEGRAM_CHAT_ID": CHAT_ID,
            "OPS_TELEGRAM_BASE_URL": telegram_url,
            # Nobody waits a minute at a demo.
            "ALERT_WINDOW_SECONDS": "3",
        }
        names = [*(name.upper() for name in Settings.model_fields), *_OTHER_VARIABLES]
        blank = {prefix + name: "" for name in names for prefix in ("", PREFIX)}
        return {**blank, **{PREFIX + name: value for name, value in ours.items()}}

    def schedule(self) -> str:
        """The retry schedule in words."""
        waits = [self.retry_delay_seconds * 2**number for number in range(self.max_retries)]
        return ", ".join(f"{wait:g}" for wait in waits)


def strategy_script() -> Path:
    """The example strategy: beside the sources, or inside the installed package.

    Raises:
        SignalpostError: it is in neither place.
    """
    here = Path(__file__).resolve().parent
    for folder in (here.parents[2] / "docs" / "examples" / "strategy", here / "strategy"):
        if (folder / "strategy.py").is_file():
            return folder / "strategy.py"
    raise SignalpostError("the example strategy is not installed; run the demo from a checkout")


def environment_of(caller: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child process: the caller's, with the demo's settings over it."""
    return {**caller, **settings, "PYTHONUNBUFFERED": "1"}
