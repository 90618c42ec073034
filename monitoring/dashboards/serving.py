"""Is it being served: *Games now*; and what serves: *Fleet*."""

from __future__ import annotations

from monitoring.dashboards.panels import (
    BYTES,
    CELSIUS,
    COUNT,
    PER_SECOND,
    RATIO,
    SECONDS,
    WATTS,
    Dashboard,
    graph,
    quantiles,
    stat,
)

#: Probes and scrapes, which are nobody's game.
PROBES = 'route!~"/ready|/health|/v1/health|/metrics"'
REQUESTS = "graycat_http_requests_total"
RATE = "[$__rate_interval]"

GAMES = Dashboard(
    "graycat-games",
    "Games now",
    "Whether games are being served, at a glance: the first row is green or somebody is waiting in vain.",
    [
        stat(
            "Served",
            "Whether a worker consumes each interactive queue right now, its engine ready.",
            COUNT,
            'min by (queue) (clamp_max(max by (queue) (graycat_queue_consumers{queue=~"llm|llm.quick|sd"}), 1))',
            "{{queue}}",
            width=8,
            red_below=1,
            names={"0": "nobody", "1": "served"},
        ),
        stat(
            "Errors",
            "Share of requests answered with 5xx in the last minutes.",
            RATIO,
            f'(sum(rate({REQUESTS}{{status=~"5..", {PROBES}}}[5m])) or vector(0))'
            f" / (sum(rate({REQUESTS}{{{PROBES}}}[5m])) > 0 or vector(1))",
            red_from=0.05,
        ),
        stat("Streams open", "Answers that are being streamed now.", COUNT, "sum(graycat_http_streams_open)"),
        stat(
            "Waiting",
            "Interactive tasks that no worker has taken yet.",
            COUNT,
            'sum(max by (queue) (graycat_queue_depth{queue!~".+batch"}))',
            red_from=50,
        ),
        stat(
            "Longest wait now",
            "How long the oldest interactive task has waited.",
            SECONDS,
            'max(graycat_queue_oldest_seconds{queue!~".+batch"})',
            red_from=10,
        ),
        quantiles(
            "Wait for a worker",
            "From accepted to claimed by a worker, for text. What players wait before anything happens.",
            "graycat_task_queue_wait_seconds",
            '{queue=~"llm|llm.quick"}',
            by="queue",
        ),
        quantiles(
            "First event at the client",
            "From the request to the first event that leaves the web process: what a player feels.",
            "graycat_http_first_event_seconds",
        ),
        quantiles(
            "First token of the engine",
            "From a worker's claim to the engine's first token: prompt processing.",
            "graycat_time_to_first_token_seconds",
        ),
        quantiles(
            "Time per output token",
            "Between two tokens of one stream, by whole streams: how fast text flows.",
            "graycat_time_per_output_token_seconds",
        ),
        graph(
            "Requests by status",
            "Requests a second by HTTP status; probes left out.",
            PER_SECOND,
            (f"sum by (status) (rate({REQUESTS}{{{PROBES}}}{RATE}))", "{{status}}"),
            stacked=True,
        ),
        graph(
            "Requests by route",
            "Requests a second by route; probes left out.",
            PER_SECOND,
            (f"sum by (route) (rate({REQUESTS}{{{PROBES}}}{RATE}))", "{{route}}"),
        ),
        graph(
            "Requests by API token",
            "Requests a second by the name of the API token; players count as their game.",
            PER_SECOND,
            (f"sum by (token) (rate({REQUESTS}{{{PROBES}}}{RATE}))", "{{token}}"),
        ),
        quantiles(
            "Request time", "From request to the end of its answer, streams included.", "graycat_http_request_seconds"
        ),
        graph(
            "How tasks end",
            "Tasks a second by what became of them; handed_back are tried again.",
            PER_SECOND,
            (f"sum by (outcome) (rate(graycat_tasks_total{RATE}))", "{{outcome}}"),
            stacked=True,
        ),
        quantiles(
            "Image time",
            "What an image engine takes for one request.",
            "graycat_image_seconds",
        ),
        quantiles(
            "Hang-up to free slot",
            "From a cancelled task's notice at its worker until the engine is free of it.",
            "graycat_cancel_to_free_seconds",
        ),
    ],
)

FLEET = Dashboard(
    "graycat-fleet",
    "Fleet",
    "Workers, their engines and GPUs, and the machines beneath.",
    [
        stat("Workers", "Workers that report.", COUNT, "sum(max by (worker) (graycat_worker_up))"),
        stat(
            "Not consuming",
            "Workers that report and take nothing: their engine is away, or somebody paused them.",
            COUNT,
            "count(max by (worker) (graycat_worker_consuming) == 0) or vector(0)",
            red_from=1,
        ),
        stat(
            "Engines ready",
            "Engines that take work.",
            COUNT,
            'sum(max by (worker) (graycat_engine_state{state="ready"}))',
        ),
        stat(
            "Slots busy",
            "Share of all slots that work.",
            RATIO,
            "sum(max by (worker) (graycat_engine_slots_busy)) / sum(max by (worker) (graycat_engine_slots))",
        ),
        stat(
            "Restarts in an hour",
            "Starts of engines in the last hour, their first ones included.",
            COUNT,
            "sum(increase(graycat_engine_starts_total[1h]))",
        ),
        stat("Paused", "Workers that somebody paused.", COUNT, "sum(max by (worker) (graycat_worker_paused))"),
        graph(
            "Engine state",
            "1 for the state that each worker's engine is in.",
            COUNT,
            ("max by (worker, state) (graycat_engine_state) == 1", "{{worker}} {{state}}"),
            stacked=True,
        ),
        graph(
            "Slots busy by worker",
            "Tasks that each engine works on at once, and how many it can.",
            COUNT,
            ("max by (worker) (graycat_engine_slots_busy)", "{{worker}} busy"),
            ("max by (worker) (graycat_engine_slots)", "{{worker}} slots"),
        ),
        graph(
            "Failures in a row",
            "How often each engine has failed since it was last up for a minute; three is a crash loop.",
            COUNT,
            ("max by (worker) (graycat_engine_failures)", "{{worker}}"),
            red_from=3,
        ),
        graph(
            "Engine starts",
            "Starts of each worker's engine in ten minutes.",
            COUNT,
            ("sum by (instance) (increase(graycat_engine_starts_total[10m]))", "{{instance}}"),
        ),
        graph(
            "Engine load time",
            "Seconds from an engine's last start until it was ready: its model's load.",
            SECONDS,
            ("max by (instance) (graycat_engine_load_seconds)", "{{instance}}"),
        ),
        graph(
            "Tokens",
            "Tokens a second that all engines stream, by kind of task.",
            "none",
            (f"sum by (kind) (rate(graycat_tokens_total{RATE}))", "{{kind}}"),
            stacked=True,
        ),
        quantiles(
            "Tokens a second of a stream",
            "How fast single streams flow, from their first token on.",
            "graycat_tokens_per_second",
            unit="none",
        ),
        graph(
            "Images",
            "Images a minute, by kind of task.",
            COUNT,
            (f"60 * sum by (kind) (rate(graycat_images_total{RATE}))", "{{kind}}"),
            stacked=True,
        ),
        quantiles(
            "Steps a second",
            "Sampling steps a second of requests for images.",
            "graycat_image_steps_per_second",
            unit="none",
        ),
        graph(
            "GPU utilization",
            "How busy each GPU is, as its worker sees it.",
            RATIO,
            ("max by (worker, gpu) (graycat_gpu_utilization_ratio)", "{{worker}} GPU {{gpu}}"),
        ),
        graph(
            "GPU memory",
            "How full each GPU is.",
            RATIO,
            (
                "max by (worker, gpu) (graycat_gpu_memory_used_bytes)"
                " / max by (worker, gpu) (graycat_gpu_memory_total_bytes)",
                "{{worker}} GPU {{gpu}}",
            ),
            red_from=0.97,
        ),
        graph(
            "GPU temperature",
            "From about 85 degrees on GPUs slow down by themselves.",
            CELSIUS,
            ("max by (worker, gpu) (graycat_gpu_temperature_celsius)", "{{worker}} GPU {{gpu}}"),
            red_from=85,
        ),
        graph(
            "GPU power",
            "What each GPU draws, by the NVIDIA exporter.",
            WATTS,
            ("nvidia_smi_power_draw_watts", "{{instance}} {{uuid}}"),
        ),
        graph(
            "Processor",
            "Share of each machine's processors that works.",
            RATIO,
            (f'1 - avg by (instance) (rate(node_cpu_seconds_total{{mode="idle"}}{RATE}))', "{{instance}}"),
        ),
        graph(
            "Memory left",
            "Memory that each machine has to give.",
            BYTES,
            ("node_memory_MemAvailable_bytes", "{{instance}}"),
        ),
        graph(
            "Disk left",
            "Share of each file system that is free.",
            RATIO,
            (
                'min by (instance, mountpoint) (node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs|overlay|squashfs"}'
                ' / node_filesystem_size_bytes{fstype!~"tmpfs|ramfs|overlay|squashfs"})',
                "{{instance}} {{mountpoint}}",
            ),
            red_below=0.1,
        ),
    ],
)
