"""`signalpost endpoint`: receivers are added, looked at, changed, tried, removed."""

from __future__ import annotations

from signalpost.cli.endpoints import (  # noqa: F401  each adds its commands to the group
    adding,
    changing,
    reencrypting,
    rotating,
    showing,
    stopping,
    testing,
)
from signalpost.cli.endpoints.group import endpoint, given_secret, secret_options

__all__ = ["endpoint", "given_secret", "secret_options"]
