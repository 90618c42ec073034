"""The Celery worker around the tasks: when it consumes, its leases, its streams, and the control worker's duties."""
