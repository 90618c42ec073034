"""A lock in the broker with an expiry: one holder at a time, and the next one soon after the last has died."""

from __future__ import annotations

from uuid import uuid4

from graycat.broker import client as store


class Lock:
    """Held for ``lease_s`` from each time it is asked for."""

    def __init__(self, client: store.Broker, key: str, lease_s: float) -> None:
        self._script = client.register_script(store.plain_script("batch_lock"))
        self._client = client
        self._key = key
        self._name = uuid4().hex
        self._lease_ms = int(lease_s * 1000)

    def hold(self) -> bool:
        """Take the lock or keep it; False where another has it. Raises BrokerUnavailable."""
        with store.broker_errors():
            return bool(self._script(keys=[self._key], args=(self._name, self._lease_ms)) == 1)

    def leave(self) -> None:
        """Let go of the lock, if it is held. Raises BrokerUnavailable."""
        if self.hold():
            with store.broker_errors():
                self._client.delete(self._key)
