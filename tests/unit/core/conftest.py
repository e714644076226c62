"""How the property tests of the core search: no deadline on shared machines, nothing on disk."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("core", deadline=None, database=None)
settings.load_profile("core")
