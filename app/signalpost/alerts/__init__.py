"""Alerts to the operator: their text, their couriers, their sending, and the loop that sends them.

An alert is a row, written in the transaction of what it tells of. It goes out in a message, alone
or with others of its kind, until a courier gives a receipt, which is stored with each of them;
nothing gives an alert up.
"""

from __future__ import annotations

from signalpost.alerts.couriers import Courier, LogCourier, courier_for
from signalpost.alerts.loop import AlertLoop
from signalpost.alerts.rounds import Round, rounds_for
from signalpost.alerts.sending import Sent, pace_for, send_due
from signalpost.alerts.system import trial_text
from signalpost.alerts.text import render
from signalpost.core.alerting import Pace
from signalpost.core.receipts import Receipt, Refused
from signalpost.repository.told import LastAttempt, Letter, Message, Notice, Tally

__all__ = [
    "AlertLoop",
    "Courier",
    "LastAttempt",
    "Letter",
    "LogCourier",
    "Message",
    "Notice",
    "Pace",
    "Receipt",
    "Refused",
    "Round",
    "Sent",
    "Tally",
    "courier_for",
    "pace_for",
    "render",
    "rounds_for",
    "send_due",
    "trial_text",
]
