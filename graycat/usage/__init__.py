"""What each API token has used, by day: counted once for each task that was accepted, when the task has ended."""
