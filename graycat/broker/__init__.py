"""Valkey or Redis as a service: the client, every key name, the Lua scripts and the connections of the hot path."""
