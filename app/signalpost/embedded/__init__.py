"""Embedded servers: PostgreSQL and a Redis-protocol server from installed wheels, in a folder."""

from __future__ import annotations
