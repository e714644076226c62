"""One frozen settings class and the order in which its values are looked for (docs/settings.md)."""

from __future__ import annotations

from signalpost.settings.loading import PREFIX, driver_url, load_settings, read_dotenv
from signalpost.settings.variables import Settings

__all__ = ["PREFIX", "Settings", "driver_url", "load_settings", "read_dotenv"]
