"""A client of graycat's REST API. It needs ``requests`` and nothing else of graycat; docs/client.md shows how it reads.

with Client("http://127.0.0.1:8000", token) as client:
    task = client.submit("llm.completion", {"prompt": "Once upon a time", "n_predict": 48})
    for event in task.events():
        print(event.text, end="", flush=True)
    print(task.answer()["tokens_predicted"])
"""

from __future__ import annotations

from graycat.client.batches import Batch
from graycat.client.client import Client
from graycat.client.errors import ApiError, ClientError, InvalidArgument, UnexpectedReply, Unreachable, WaitTimeout
from graycat.client.task import Task
from graycat.client.views import Event, Image, Progress, TaskView

__all__ = [
    "ApiError",
    "Batch",
    "Client",
    "ClientError",
    "Event",
    "Image",
    "InvalidArgument",
    "Progress",
    "Task",
    "TaskView",
    "UnexpectedReply",
    "Unreachable",
    "WaitTimeout",
]
