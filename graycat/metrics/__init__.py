"""Graycat's own metrics: every Prometheus metric object, and what is read from the broker when somebody scrapes.

``http`` is observed by web processes, ``work`` by workers; ``gauges`` shows what ``look`` has found in the broker.
docs/monitoring.md lists them all.
"""

from prometheus_client import disable_created_metrics

# When each series was made would be a third of a scrape, and Prometheus does not read it.
disable_created_metrics()
