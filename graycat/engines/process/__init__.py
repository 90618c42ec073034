"""One engine process: how it is started, watched, restarted and stopped."""
