"""What goes on inside: *Queues and batches*, *Celery* and *Broker*."""

from __future__ import annotations

from monitoring.dashboards.panels import (
    BYTES,
    BYTES_PER_SECOND,
    COUNT,
    OPS,
    PER_SECOND,
    RATIO,
    SECONDS,
    Dashboard,
    graph,
    quantiles,
    stat,
)

RATE = "[$__rate_interval]"

QUEUES = Dashboard(
    "graycat-queues",
    "Queues and batches",
    "What waits, for how long, and how bulk work gets on.",
    [
        graph(
            "Tasks that wait",
            "Depth of each queue, those of single models counted with it.",
            COUNT,
            ("max by (queue) (graycat_queue_depth)", "{{queue}}"),
        ),
        graph(
            "Oldest task that waits",
            "How long the oldest waiting task of each queue has waited.",
            SECONDS,
            ("max by (queue) (graycat_queue_oldest_seconds)", "{{queue}}"),
        ),
        graph(
            "Consumers",
            "Workers that serve each queue right now.",
            COUNT,
            ("max by (queue) (graycat_queue_consumers)", "{{queue}}"),
        ),
        quantiles(
            "Wait by queue",
            "From accepted to claimed, of the tasks that were claimed.",
            "graycat_task_queue_wait_seconds",
            by="queue",
            width=12,
        ),
        graph(
            "Paused queues",
            "1 where somebody has paused a queue.",
            COUNT,
            ("max by (queue) (graycat_queue_paused)", "{{queue}}"),
            width=12,
        ),
        graph(
            "Ends by kind",
            "Tasks a second by kind and by what became of them.",
            PER_SECOND,
            (f"sum by (kind, outcome) (rate(graycat_tasks_total{RATE}))", "{{kind}} {{outcome}}"),
            stacked=True,
        ),
        graph(
            "Attempts",
            "Attempts a second; again are retries and redeliveries.",
            PER_SECOND,
            (f"sum by (nth) (rate(graycat_task_attempts_total{RATE}))", "{{nth}}"),
        ),
        graph(
            "Fenced off and swept",
            "Results that were refused as stale, and lost tasks that were enqueued again. Zero on a quiet day.",
            PER_SECOND,
            (f"sum(rate(graycat_task_fenced_total{RATE})) or vector(0)", "fenced off"),
            (f"sum(rate(graycat_tasks_swept_total{RATE})) or vector(0)", "swept"),
        ),
        stat(
            "Batches late",
            "Running batches that will not be done in time.",
            COUNT,
            "max(graycat_batch_late)",
            red_from=1,
        ),
        graph(
            "Batches",
            "Batches by state.",
            COUNT,
            ("max by (state) (graycat_batches)", "{{state}}"),
            width=10,
        ),
        graph(
            "Items of batches",
            "Items of the batches that are kept, by state.",
            COUNT,
            ("max by (state) (graycat_batch_items)", "{{state}}"),
            width=10,
            stacked=True,
        ),
        graph(
            "Schedules",
            "Nominal times in an hour, by what became of them.",
            COUNT,
            (
                "sum by (outcome) (increase(graycat_schedule_fires_total[1h])) or label_replace(vector(0), "
                '"outcome", "fired", "", "")',
                "{{outcome}}",
            ),
        ),
        graph(
            "Webhooks that wait",
            "Deliveries that are not settled.",
            COUNT,
            ("max(graycat_webhook_deliveries_pending)", "pending"),
        ),
        graph(
            "Webhook tries",
            "Tries a second to tell a webhook, by what became of them.",
            PER_SECOND,
            (
                f"sum by (outcome) (rate(graycat_webhook_deliveries_total{RATE})) or label_replace(vector(0), "
                '"outcome", "delivered", "", "")',
                "{{outcome}}",
            ),
        ),
        graph(
            "Held in the broker",
            "Memory that event streams, finished images and the inputs of tasks take.",
            BYTES,
            ("max(graycat_broker_events_bytes)", "events"),
            ("max(graycat_broker_artifacts_bytes)", "images"),
            ("max(graycat_stored_bytes)", "inputs"),
            stacked=True,
        ),
        graph(
            "The broker's memory",
            "What it takes in all, and what it may take. Above 85 % no new task is accepted.",
            BYTES,
            ("max(graycat_broker_memory_used_bytes)", "used"),
            ("max(graycat_broker_memory_max_bytes) > 0", "limit"),
        ),
    ],
)

CELERY = Dashboard(
    "graycat-celery",
    "Celery",
    "Celery's own view, by danihodovic's celery-exporter; its published dashboards read the same metrics.",
    [
        stat("Hosts up", "Hosts of workers that sent a heartbeat.", COUNT, "sum(celery_worker_up)", red_below=1),
        stat("Active", "Tasks that workers run now.", COUNT, "sum(celery_worker_tasks_active)"),
        stat("In queues", "Messages in all queues.", COUNT, "sum(celery_queue_length)"),
        graph(
            "Messages by queue",
            "Length of each queue's list. Tasks that wait aside for their turn are not in it: see Queues and batches.",
            COUNT,
            ("celery_queue_length", "{{queue_name}}"),
            width=12,
            height=8,
        ),
        graph(
            "Workers by queue",
            "Workers that follow each queue, whether their engine is ready or not.",
            COUNT,
            ("celery_active_worker_count", "{{queue_name}}"),
        ),
        graph(
            "Started",
            "Tasks a second that workers begin, by name.",
            PER_SECOND,
            (f"sum by (name) (rate(celery_task_started_total{RATE}))", "{{name}}"),
        ),
        graph(
            "Ended",
            "Tasks a second by how Celery saw them end; graycat's own outcomes are in Games now.",
            PER_SECOND,
            (f"sum(rate(celery_task_succeeded_total{RATE}))", "succeeded"),
            (f"sum(rate(celery_task_failed_total{RATE}))", "failed"),
            (f"sum(rate(celery_task_rejected_total{RATE}))", "rejected"),
            (f"sum(rate(celery_task_retried_total{RATE}))", "retried"),
        ),
        quantiles(
            "Runtime",
            "What tasks take inside a worker, by name.",
            "celery_task_runtime",
            by="name",
            width=24,
        ),
    ],
    refresh="30s",
)

BROKER = Dashboard(
    "graycat-broker",
    "Broker",
    "Valkey (or Redis), by redis_exporter.",
    [
        stat(
            "Up",
            "Whether the broker answers its exporter.",
            COUNT,
            "min(redis_up)",
            red_below=1,
            names={"0": "down", "1": "up"},
        ),
        stat(
            "Up as web sees it",
            "Whether it answers the web processes.",
            COUNT,
            "max(graycat_broker_up)",
            red_below=1,
            names={"0": "down", "1": "up"},
        ),
        stat("Since its start", "Seconds since the broker began.", SECONDS, "min(redis_uptime_in_seconds)"),
        stat("Clients", "Connections.", COUNT, "sum(redis_connected_clients)"),
        stat(
            "Writes to disk",
            "Whether the append-only file is on.",
            COUNT,
            "min(redis_aof_enabled)",
            red_below=1,
            names={"0": "no", "1": "yes"},
        ),
        stat(
            "Last write",
            "Whether its last write to disk succeeded.",
            COUNT,
            "min(redis_aof_last_write_status)",
            red_below=1,
            names={"0": "failed", "1": "ok"},
        ),
        graph(
            "Memory",
            "What its data take, what the process takes, and what it may take (0: as much as there is).",
            BYTES,
            ("redis_memory_used_bytes", "{{instance}} data"),
            ("redis_memory_used_rss_bytes", "{{instance}} process"),
            ("redis_memory_max_bytes", "{{instance}} limit"),
        ),
        graph(
            "Fullness",
            "Share of its limit, or of the machine's memory where it has none.",
            RATIO,
            (
                "redis_memory_used_bytes / ((redis_memory_max_bytes > 0) or redis_total_system_memory_bytes)",
                "{{instance}}",
            ),
            red_from=0.8,
        ),
        graph("Commands", "Commands a second.", OPS, (f"rate(redis_commands_processed_total{RATE})", "{{instance}}")),
        graph(
            "Commands by name",
            "The ten commands that are called most.",
            OPS,
            (f"topk(10, sum by (cmd) (rate(redis_commands_total{RATE})))", "{{cmd}}"),
        ),
        graph(
            "Time by command",
            "Share of a second that the ten costliest commands take: at 1 the broker is the bottleneck.",
            RATIO,
            (f"topk(10, sum by (cmd) (rate(redis_commands_duration_seconds_total{RATE})))", "{{cmd}}"),
        ),
        graph(
            "Network",
            "Bytes a second in and out.",
            BYTES_PER_SECOND,
            (f"rate(redis_net_input_bytes_total{RATE})", "{{instance}} in"),
            (f"rate(redis_net_output_bytes_total{RATE})", "{{instance}} out"),
        ),
        graph(
            "Connections",
            "Connections, and those that wait in a blocking command (idle workers do).",
            COUNT,
            ("redis_connected_clients", "{{instance}} connected"),
            ("redis_blocked_clients", "{{instance}} blocked"),
        ),
        graph(
            "Keys",
            "Keys of each database, and those that will expire.",
            COUNT,
            ("sum by (db) (redis_db_keys) > 0", "{{db}}"),
            ("sum by (db) (redis_db_keys_expiring) > 0", "{{db}} expiring"),
        ),
        graph(
            "Evicted and rejected",
            "Keys that had to go for want of memory, and connections that were refused. Zero, always.",
            OPS,
            (f"rate(redis_evicted_keys_total{RATE})", "{{instance}} evicted"),
            (f"rate(redis_rejected_connections_total{RATE})", "{{instance}} rejected"),
        ),
    ],
)
