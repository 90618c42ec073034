"""The keys of earlier releases: what all families had in one is moved to those of each family.

A worker or a web process of an earlier release that still runs goes on writing the old keys, so the control worker
looks for them each second.
"""

from __future__ import annotations

import logging
from pathlib import Path

from graycat.broker.client import broker_errors
from graycat.broker.keys import HOME, PREFIX, failures_key, quarantine_key
from graycat.broker.protocol import Broker
from graycat.broker.scripts import Scripts
from graycat.families import FAMILIES

logger = logging.getLogger(__name__)

#: In the order of migrate.lua.
OLD_KEYS = tuple(f"{PREFIX}{name}" for name in ("live", "turns", "means", "fleet", "failures", "quarantine"))


class Migration:
    """Moves what lies in the keys of earlier releases. Its user may do everything in the broker."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._scripts = Scripts(client, Path(__file__).parent / "lua", ("migrate",))

    def step(self) -> None:
        """Move what is there. Raises BrokerUnavailable."""
        with broker_errors():
            if not self._client.exists(*OLD_KEYS):
                return
            arguments = [failures_key(HOME), quarantine_key(HOME)]
            for family in FAMILIES:
                arguments += [family.name, family.id_digits, " ".join(family.worker_kinds)]
            moved = self._scripts.run("migrate", OLD_KEYS, arguments)
        logger.info("entries of an earlier release moved to the keys of their families", extra={"count": moved})
