"""A broker that is replaced, restored, slow, or away while others die."""

from __future__ import annotations

import shutil
import signal
import time
from functools import partial
from pathlib import Path

from chaos.brokers import PROXY, SENTINELS, SETTING, ProxiedBroker, WatchedBroker
from chaos.faults import BREAKS, ENDS, REFUSES, Fault
from chaos.faults.operators import stop
from chaos.snapshots import FORGOTTEN, MAY_COME, Snapshot
from chaos.system import System

WATCHED, OUTSIDE = {SETTING: SENTINELS}, {SETTING: PROXY}
#: Seconds for which a replica lags, that a backup is old, and that a broker is away while others die.
LAG_S, AGE_S, AWAY_S = 1.0, 3.0, 3.0
#: Seconds that each command takes to a slow broker, and for how long it is slow.
SLOW_S, SLOWLY_S = 0.2, 12.0
#: What a broker permits that goes back to a snapshot: what it accepted since is gone, what ran then is done again.
LOSES = frozenset(f"{kind} {FORGOTTEN}" for kind in MAY_COME)
#: Which parts die while the broker is away.
DYING = ("llm", "sd", "quick", "control", "web", "beat")


def watched(system: System) -> WatchedBroker:
    """Return the system's broker with sentinels. Raises TypeError if it has another."""
    if not isinstance(system.outside, WatchedBroker):
        raise TypeError(f"a fault without {WATCHED} in its env")
    return system.outside


def proxied(system: System) -> ProxiedBroker:
    """Return the system's broker behind proxies. Raises TypeError if it has another."""
    if not isinstance(system.outside, ProxiedBroker):
        raise TypeError(f"a fault without {OUTSIDE} in its env")
    return system.outside


def fail_over(system: System, lag_s: float = 0.0) -> None:
    """Kill the master; its replica has all that it has accepted, but what came in the last ``lag_s`` seconds."""
    servers = watched(system).servers
    servers.start_dead()
    old = servers.master()
    (replica,) = [port for port in servers.ports if port != old]
    if lag_s:
        system.snapshot = Snapshot.of(system)
    servers.wait_for_copies(1)
    if lag_s:
        servers.signal(replica, signal.SIGSTOP)
        time.sleep(lag_s)
        # What lies in the connection is lost as well.
        servers.client(old).execute_command("CLIENT", "KILL", "TYPE", "replica")
    servers.kill(old)
    if lag_s:
        servers.signal(replica, signal.SIGCONT)
    servers.wait_for_failover(old)
    system.harm_done()


def restore(system: System) -> None:
    """Put the broker's files of some seconds ago in place of those of now, and start it with them."""
    broker = proxied(system)
    backup = copy_files(system, broker.folder / "broker")
    time.sleep(AGE_S)
    broker.server.kill()
    put_back(backup, broker.folder / "broker")
    broker.server.start()
    system.harm_done()


def restore_while_down(system: System) -> None:
    """Stop graycat, put its broker's files of some seconds ago in place of those of now, and start it anew."""
    data = system.home / "broker"
    backup = copy_files(system, data)
    time.sleep(AGE_S)
    stop(system)
    put_back(backup, data)
    system.harm_done()
    system.start()


def copy_files(system: System, data: Path) -> Path:
    """Copy the files of a broker that runs; return where the copy is."""
    system.snapshot = Snapshot.of(system)
    backup = data.with_name("backup")
    shutil.rmtree(backup, ignore_errors=True)
    shutil.copytree(data, backup, ignore=shutil.ignore_patterns("*.sock"))
    return backup


def put_back(backup: Path, data: Path) -> None:
    """Put a copy of the files of a broker that does not run in their place."""
    shutil.rmtree(data)
    shutil.move(backup, data)


def kill_while_away(part: str, system: System) -> None:
    """Kill the broker and a part; the part is started again before the broker is back."""
    server = proxied(system).server
    server.kill()
    system.kill(part)
    time.sleep(AWAY_S)
    server.start()
    system.harm_done()


def slow_down(system: System, dying: str = "") -> None:
    """Have each command take 200 ms for some time; a part may be killed meanwhile."""
    broker = proxied(system)
    broker.home.delay_s = SLOW_S
    try:
        if dying:
            system.kill(dying)
        time.sleep(SLOWLY_S)
    finally:
        broker.home.delay_s = 0.0
        system.harm_done()


FAULTS = [
    Fault(
        "failover", "broker", "the master is killed; sentinels choose its replica", fail_over,
        env=WATCHED, permits=REFUSES,
    ),
    Fault(
        "failover to a replica that lags", "broker", f"the same, without the last {LAG_S:g} s",
        partial(fail_over, lag_s=LAG_S), env=WATCHED, permits=REFUSES | BREAKS | ENDS | LOSES, alone=True,
    ),
    Fault(
        "broker restored", "broker", f"killed, and started with its files of {AGE_S:g} s ago",
        restore, env=OUTSIDE, permits=REFUSES | BREAKS | ENDS | LOSES, alone=True,
    ),
    Fault(
        "broker restored while graycat is down", "broker", f"Ctrl-C, the files of {AGE_S:g} s before, `graycat up`",
        restore_while_down, permits=REFUSES | BREAKS | ENDS | LOSES, alone=True, starts_anew=True,
    ),
    *(
        Fault(
            f"kill {part} while the broker is away", "broker", f"{part} and the broker; the broker {AWAY_S:g} s later",
            partial(kill_while_away, part), env=OUTSIDE, permits=REFUSES | BREAKS | ENDS,
        )
        for part in DYING
    ),
    Fault(
        "slow broker", "broker", f"each command takes {SLOW_S * 1000:g} ms for {SLOWLY_S:g} s", slow_down,
        env=OUTSIDE, permits=REFUSES,
    ),
    Fault(
        "kill control while the broker is slow", "broker", "the same, and the control worker dies",
        partial(slow_down, dying="control"), env=OUTSIDE, permits=REFUSES,
    ),
]  # fmt: skip
