"""Runs several processes in one terminal: prefixed logs, restarts, an orderly end.

Knows nothing of what the processes do; `signalpost up` and `signalpost demo` say which they are.
"""

from __future__ import annotations

from signalpost.supervisor.lines import PrefixedLines
from signalpost.supervisor.supervisor import Child, Supervisor

__all__ = ["Child", "PrefixedLines", "Supervisor"]
