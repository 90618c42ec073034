"""graycat's own Prometheus metrics, and the small server beside each worker.

``web`` has those of web processes, ``worker`` those of workers. ``graycat.status.gauges`` has those that are read from
the broker at a scrape. docs/monitoring.md lists them all.
"""

from prometheus_client import disable_created_metrics

# The creation time of each series would be a third of a scrape, and Prometheus does not read it.
disable_created_metrics()
