"""graycat's own REST API: tasks, batches, schedules, tokens, health and metrics."""
