"""The thin Celery shell around the signalpost library: tasks, queues, beat, composition root."""
