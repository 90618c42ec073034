"""What runs around the views: quick 304 answers for polled tasks, request spans for tracing, and broken requests."""
