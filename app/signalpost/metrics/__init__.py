"""What a worker process counts and measures, and how it serves that to Prometheus.

Labels are outcomes, codes, statuses and queue names: all from closed lists, none private.
"""

from __future__ import annotations

from signalpost.metrics.counting import Counting
from signalpost.metrics.gauges import OutboxGauges
from signalpost.metrics.serving import MetricsServer

__all__ = ["Counting", "MetricsServer", "OutboxGauges"]
