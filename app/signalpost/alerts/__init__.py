"""Alerts to the operator: their text, their couriers, their sending, and the loop that sends them.

An alert is a row, written in the transaction of what it tells of. It is sent until a courier gives
a receipt for it, which is stored with it; nothing gives an alert up.
"""

from __future__ import annotations

from signalpost.alerts.loop import AlertLoop
from signalpost.alerts.sending import Courier, LogCourier, Sent, courier_for, send_due
from signalpost.alerts.text import render
from signalpost.repository.alerts import LastAttempt, Letter, Notice
from signalpost.telegram import Receipt, Refused, TelegramCourier

__all__ = [
    "AlertLoop",
    "Courier",
    "LastAttempt",
    "Letter",
    "LogCourier",
    "Notice",
    "Receipt",
    "Refused",
    "Sent",
    "TelegramCourier",
    "courier_for",
    "render",
    "send_due",
]
