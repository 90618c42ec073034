"""Submit a task, wait for its events, and write them to the client, whole or as a stream."""
