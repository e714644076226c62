"""`python -m signalpost.cli` is the `signalpost` command."""

from __future__ import annotations

import sys

from signalpost.cli import main

sys.exit(main())
