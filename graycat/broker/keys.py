"""The name of every key that graycat has in the broker, and how long some of them live."""

from __future__ import annotations

from graycat.families import FAMILIES

#: What belongs to no family of engines: the control worker's, and what web processes write.
HOME = "home"
#: What workers write lies apart for each family, so that no box touches another family's or home's
#: (docs/decisions/0027-boxes-touch-little.md).
SHARES = (*(family.name for family in FAMILIES), HOME)
#: The prefix of every key that is not Celery's.
PREFIX = "graycat:"
#: The prefix of the keys of beat: its lock, and the time of its last tick.
BEAT = PREFIX + "beat:"
#: The lock that lets one beat tick, as RedBeat calls it behind that prefix.
BEAT_LOCK = BEAT + ":lock"
#: Ids of the schedules.
SCHEDULES = PREFIX + "schedules"
#: The lock of the control worker that runs the due schedules.
FIRING = PREFIX + "schedules:firing"
#: When due schedules were last run (seconds).
FIRED_AT = PREFIX + "schedules:fired"
#: What tasks and batches hold in the broker (hash): bytes by owner, and of all; and whether it has room for new ones.
STORED = PREFIX + "stored"
#: What each of them is charged with, by the time when that was last looked at (sorted set).
STORED_CHARGES = PREFIX + "stored:charges"
#: Deliveries to webhooks that are pending, as ``TASK_ID EVENT``, by the time when they are due.
DELIVERIES = PREFIX + "deliveries"
#: Ids of the tasks with a webhook that have not ended, as far as home has looked, by when it looks again (ms).
HOOKS = PREFIX + "hooks"
#: How long a delivery is kept: a day of attempts, and an hour to read how they ended.
DELIVERY_TTL_S = 25 * 3600
#: Paused queues: no worker takes from them.
PAUSED_QUEUES = PREFIX + "paused"
#: What runs on each machine under ``graycat up`` (hash): a report by the machine's name.
PROCESSES = PREFIX + "processes"
#: Minted API tokens, by their prefixes.
API_TOKENS = PREFIX + "tokens"
#: When each of them was last used.
API_TOKENS_USED = PREFIX + "tokens:used"
#: Prefixes of those that were revoked, by the time of it (seconds).
REVOKED_TOKENS = PREFIX + "tokens:revoked"
#: Names of those whose tasks are to be ended, by when: they expire then, or were revoked then (seconds).
TOKEN_ENDS = PREFIX + "tokens:ends"
#: Batches that the batch runner works on, in the order of their turns.
LIVE_BATCHES = PREFIX + "batches:live"
#: All batches, by the time when they were submitted.
BATCHES = PREFIX + "batches"
#: The lock of the control worker that runs the batches.
BATCH_RUNNER_LOCK = PREFIX + "batches:feeding"
#: How fast images are made: milliseconds for a megapixel-step, by kind, and by kind and worker.
BATCH_THROUGHPUT = PREFIX + "batches:speeds"
#: Which batch writes to a folder.
BATCH_FOLDERS = PREFIX + "batches:folders"
#: Accepted tasks whose usage is not counted yet, as ``TASK_ID OWNER``, by the time when they were submitted.
UNCOUNTED = PREFIX + "usage:uncounted"
#: The number of the last turn that a batch had: a counter for the order of the batches.
BATCH_TURN = PREFIX + "batches:turn"


def live_key(family: str) -> str:
    """Return the key of the ids of a family's unfinished tasks, by the time when they were submitted."""
    return f"{PREFIX}live.{family}"


def means_key(family: str) -> str:
    """Return the key of the mean duration of a family's tasks, by kind (ms)."""
    return f"{PREFIX}means.{family}"


def needs_key(family: str) -> str:
    """Return the key of how many workers a family has needed lately (hash). Only home touches it."""
    return f"{PREFIX}needs.{family}"


def turns_key(family: str) -> str:
    """Return the key of a family's queues with a round robin between the owners of tasks. Only home adds to it."""
    return f"{PREFIX}turns.{family}"


def failures_key(share: str) -> str:
    """Return the key of the newest failures of tasks (stream), kept for a week; ``share``: one of SHARES."""
    return f"{PREFIX}failures.{share}"


def quarantine_key(share: str) -> str:
    """Return the key of items that no loop could use (list), the newest first; ``share``: one of SHARES."""
    return f"{PREFIX}quarantine.{share}"


def fleet_key(share: str) -> str:
    """Return the key of names of workers, by the time of their last report; ``share``: one of SHARES."""
    return f"{PREFIX}fleet.{share}"


def share_of_worker(name: str) -> str:
    """Return which of SHARES a worker's reports lie in: that of the family whose kind of worker it is, else home's."""
    kind = name.partition("@")[0]
    for family in FAMILIES:
        if kind in family.worker_kinds:
            return family.name
    return HOME


def web_channel(family: str, process: str) -> str:
    """Return the channel over which workers push the events of a family's tasks to one web process.

    Each family has its own, so that a worker of one cannot push to who waits for the other's tasks.
    """
    return f"{PREFIX}web:{family}:{process}"


def listed_key(owner: str) -> str:
    """Return the key of the ids of the tasks that one API token may list, by the time when they were submitted."""
    return f"{PREFIX}listed:{owner}"


def owned_key(family: str, owner: str) -> str:
    """Return the key of the ids of one API token's unfinished tasks of a family, by when they were submitted."""
    return f"{live_key(family)}:{owner}"


def players_key(family: str, owner: str) -> str:
    """Return the key of the ids of the unfinished tasks of a family that all players of one API token have."""
    return f"{PREFIX}players.{family}:{owner}"


def rate_key(owner: str) -> str:
    """Return the key of the ids of the tasks that one API token began in the last minute."""
    return f"{PREFIX}rate:{owner}"


def record_key(task_id: str) -> str:
    """Return the key of a task's record."""
    return f"{PREFIX}task:{task_id}"


def events_key(task_id: str) -> str:
    """Return the key of a task's event stream."""
    return f"{PREFIX}events:{task_id}"


def catalog_key(name: str) -> str:
    """Return the key of the lists that a worker's engine answers without work."""
    return f"{PREFIX}catalog:{name}"


def preview_key(task_id: str) -> str:
    """Return the key of a task's newest preview image."""
    return f"{PREFIX}preview:{task_id}"


def artifact_key(task_id: str, number: int) -> str:
    """Return the key of a finished image's bytes."""
    return f"{PREFIX}artifact:{task_id}:{number}"


def artifacts_key(task_id: str) -> str:
    """Return the key of the descriptions of a task's finished images."""
    return f"{PREFIX}artifacts:{task_id}"


def worker_key(name: str) -> str:
    """Return the key of a worker's record in the fleet."""
    return f"{PREFIX}worker:{name}"


def delivery_key(task_id: str, event: str) -> str:
    """Return the key of one delivery to a webhook: its content, and how its attempts ended."""
    return f"{PREFIX}delivery:{task_id}:{event}"


def hook_key(task_id: str) -> str:
    """Return the key of what is to be told of a task: its webhook, and what home knew of it when it was created.

    Only home may touch it, so that no worker can have anything else signed and sent.
    """
    return f"{PREFIX}hook:{task_id}"


def changed_key(family: str) -> str:
    """Return the key of the ids (sorted set) of a family's tasks of which a webhook may have to be told something."""
    return f"{PREFIX}changed:{family}"


def receiver_key(host: str) -> str:
    """Return the key of the deliveries under way to one receiver, by the time when their slot is free again."""
    return f"{PREFIX}receiver:{host}"


def sender_key(owner: str) -> str:
    """Return the key of the deliveries under way for one API token, by the time when their slot is free again."""
    return f"{PREFIX}sender:{owner}"


def schedule_keys(schedule_id: str) -> list[str]:
    """Return the keys of a schedule (``OWNER:NAME``): its record, times that wait for a batch, last outcomes."""
    record = f"{PREFIX}schedule:{schedule_id}"
    return [record, f"{record}:waiting", f"{record}:fires"]


def batch_key(batch_id: str) -> str:
    """Return the key of a batch's record."""
    return f"{PREFIX}batch:{batch_id}"


def batch_part_key(batch_id: str, part: str) -> str:
    """Return the key of a part of a batch: ``plan`` and ``items`` (hashes), or an item state's numbers."""
    return f"{batch_key(batch_id)}:{part}"


def owner_batches_key(owner: str) -> str:
    """Return the key of the ids of one API token's batches, by the time when they were submitted."""
    return f"{PREFIX}batches:of:{owner}"


def turn_key(queue: str, owner: str) -> str:
    """Return the key of the id of the task that has an owner's turn in a queue.

    Owners and queues may have colons in their names, so that two of each could meet in one key without the zero byte.
    Of these five, only ``queue/lua/turns.lua`` writes.
    """
    return f"{PREFIX}turn.{_family_of(queue)}:{owner}\0{queue}"


def parked_key(queue: str, owner: str) -> str:
    """Return the key of the ids of an owner's tasks (list) that wait until it is their turn to enter a queue."""
    return f"{PREFIX}aside.{_family_of(queue)}:{owner}\0{queue}"


def _family_of(queue: str) -> str:
    """Return what the name of a queue begins with."""
    return queue.partition(":")[0].partition(".")[0]


def parked_count_key(queue: str) -> str:
    """Return the key of how many tasks are parked before a queue."""
    return f"{PREFIX}asides:{queue}"


def owners_key(queue: str) -> str:
    """Return the key of the owners (sorted set) that have a turn in a queue, by when they got it."""
    return f"{PREFIX}owners:{queue}"


def dead_messages_key(queue: str) -> str:
    """Return the key of how many messages in a queue belong to tasks that have ended."""
    return f"{PREFIX}dead:{queue}"


def usage_key(day: str) -> str:
    """Return the key of what API tokens used on a day (``2026-11-29``, UTC): amounts by ``OWNER FAMILY AMOUNT``."""
    return f"{PREFIX}usage:day:{day}"


def wrong_type_key(key: str) -> str:
    """Return the key under which a key of another type than ours is kept for an operator to look at."""
    return f"{PREFIX}wrong-type:{key}"


def sweeper_lock_key(kind: str) -> str:
    """Return the key of the lock that lets one worker of a kind sweep at a time."""
    return f"{PREFIX}sweeping:{kind}"
