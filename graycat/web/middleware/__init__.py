"""What runs around the views: quick 304 answers for polled tasks, and request spans for tracing."""
