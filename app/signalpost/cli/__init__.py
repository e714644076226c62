"""The operator's hands and eyes: `signalpost ...`."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 well, 1 failed, 2 wrong usage, 130 interrupted.

    `arguments` are those of the process where none are given. Never raises for what a command
    meets: every failure is one line on standard error (with `--debug`: the traceback too).
    """
    try:
        from signalpost.cli.program import run
    except KeyboardInterrupt:
        return 130
    return run(arguments)
