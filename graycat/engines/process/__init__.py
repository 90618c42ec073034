"""The engine's process: its start command, the process itself, and the supervisor that starts it again."""
