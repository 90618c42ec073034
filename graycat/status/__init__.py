"""One snapshot of the whole system, for /metrics, /status and ``graycat status``."""
