"""Schedules: batches that are submitted by the clock."""
