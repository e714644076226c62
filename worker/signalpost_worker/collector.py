"""Python's garbage collector, kept out of a running worker's way.

A full pass looks at every object that there is, and Celery, SQLAlchemy and all the rest have many:
for tens of milliseconds no byte is sent. So what is loaded when a worker is ready is
left out of every later pass (``gc.freeze``), and passes come less often: attempts leave hardly any
cycles behind, and so many young objects are a few MiB.
"""

from __future__ import annotations

import gc

YOUNG, MIDDLE, FULL = 10_000, 20, 20
"""A pass of the youngest after so many new objects; of each older generation after so many of the
one before it."""


def settle() -> None:
    """Leave all that is loaded by now out of later passes, for as long as this process lives."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, FULL)
