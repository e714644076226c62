"""`python -m signalpost_worker ...` is Celery's command line, with a quiet end while it starts.

Loading Celery takes a second, in which nothing of a worker is under way: Ctrl-C ends the process at
once, as it ends any program that has not asked otherwise. From its start on, a worker answers
Ctrl-C itself.
"""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from celery.bin.celery import main

if __name__ == "__main__":
    main()
