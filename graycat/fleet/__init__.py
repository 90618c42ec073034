"""The last report of each worker and machine, and the catalogs of the engines."""
