"""WSGI middleware around the application: the 304 short-cut of polled tasks, and traces."""
