"""The Celery app: its configuration and the composition root of a worker process."""

from __future__ import annotations

import logging
import ssl
import warnings
from typing import Any

from celery import Celery
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.schedules import crontab
from celery.signals import setup_logging
from kombu import Exchange, Queue
from kombu.utils.url import parse_url

from signalpost import broker
from signalpost.logs import configure_logging
from signalpost.settings import Settings
from signalpost_worker import flower_guard, kombu_guard, steps, tasks
from signalpost_worker.runtime import Runtime

VISIBILITY_SECONDS = 3600
"""Longer than any countdown (300 s) and any attempt (300 s): a message is not run twice while its
task still holds it."""


def _configuration(settings: Settings) -> dict[str, Any]:
    return {
        "broker_url": settings.redis_url,
        "broker_use_ssl": _certificate_check(settings.redis_url),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_SECONDS,
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
        },
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_send_sent_event": True,
        "worker_send_task_events": True,
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "task_create_missing_queues": False,
        "task_default_queue": broker.UPKEEP_QUEUE,
        # Each with an exchange of its own: in a shared one, every message would reach all of them.
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in broker.QUEUES],
        "task_routes": {
            broker.DELIVER_TASK: {"queue": broker.DELIVER_QUEUE},
            broker.DRAIN_TASK: {"queue": broker.DRAIN_QUEUE},
            broker.ALERT_TASK: {"queue": broker.ALERTS_QUEUE},
            broker.PRUNE_TASK: {"queue": broker.UPKEEP_QUEUE},
        },
        "beat_schedule": {
            # A run is bounded, so that it ends soon when the worker does; its number must keep up
            # with what is delivered, or the tables grow for ever.
            "prune": {"task": broker.PRUNE_TASK, "schedule": crontab(minute="*/5")},
        },
        "beat_max_loop_interval": 60,
        "timezone": "UTC",
    }


def _certificate_check(redis_url: str | None) -> dict[str, Any] | None:
    """What kombu and Flower need to be told of TLS: left alone, kombu checks no certificate."""
    if redis_url is None or not redis_url.startswith("rediss://"):
        return None
    asked_for = parse_url(redis_url).get("ssl", {})
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, **asked_for}


def create_app(settings: Settings, runtime: Runtime | None = None) -> Celery:
    """Build the app of one process: configuration, tasks, steps."""
    # Celery warns of root because pickled messages could run anything; here only JSON is accepted.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # Each loss of Redis would be told with a page about a setting that Celery 6 turns round.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    kombu_guard.install()
    flower_guard.install()
    celery = Celery("signalpost")
    celery.conf.update(_configuration(settings))
    setup_logging.connect(
        lambda loglevel=None, **_: configure_logging(
            loglevel if isinstance(loglevel, int) else logging.INFO,
            as_json=settings.log_format == "json",
        ),
        weak=False,
        dispatch_uid="signalpost",
    )
    runtime = runtime or Runtime(settings)
    tasks.register(celery, runtime)
    steps.install(celery, runtime)
    return celery
