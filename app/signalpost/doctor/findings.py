"""What a check found: a state, what was seen, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "State", "failure", "ok", "skipped", "warning"]


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, and somebody should know."""
    FAILURE = "failure"
    SKIPPED = "skipped"
    """It could not be looked at, because of what another check found."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's; `told` and `remedy` hold no secret and no password."""

    check: str
    state: State
    told: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """Both in one."""
        return f"{self.told}; {self.remedy}" if self.remedy else self.told


def ok(check: str, told: str) -> Finding:
    """All is well."""
    return Finding(check, State.OK, told)


def warning(check: str, told: str, remedy: str) -> Finding:
    """It works, but."""
    return Finding(check, State.WARNING, told, remedy)


def failure(check: str, told: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(check, State.FAILURE, told, remedy)


def skipped(check: str, why: str) -> Finding:
    """Not looked at; `why` names what stood in the way."""
    return Finding(check, State.SKIPPED, why)
