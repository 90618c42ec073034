"""Graycat's own metrics: every Prometheus metric object, and what is read from the broker when somebody scrapes.

``http`` is observed by web processes, ``work`` by workers; ``gauges`` shows what ``look`` has found in the broker.
docs/monitoring.md lists them all.
"""
