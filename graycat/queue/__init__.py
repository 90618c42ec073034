"""What a task is between processes: its kind, queue, id, record, events and Celery message."""
