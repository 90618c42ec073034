"""Submit a task, poll it, watch it, lose the connection, go on where it broke off, fetch an image."""

import json
import os
import time
from itertools import islice
from pathlib import Path
from uuid import uuid4

import requests

URL, http = os.environ["GRAYCAT_URL"], requests.Session()
http.headers["Authorization"] = "Bearer " + os.environ["GRAYCAT_TOKEN"]


def submit(kind, **given):
    key = {"Idempotency-Key": str(uuid4())}  # sent again with the same key, it is the same task
    return URL + http.post(f"{URL}/tasks", json={"kind": kind, "input": given}, headers=key).headers["Location"]


def events(task, after="0"):
    with http.get(f"{task}/events?format=ndjson", headers={"Last-Event-ID": after}, stream=True) as reply:
        yield from (json.loads(line) for line in reply.iter_lines() if line)


def result(task, tag=None):
    while "Retry-After" in (reply := http.get(task, headers={"If-None-Match": tag})).headers:
        tag = reply.headers.get("ETag")  # while it holds, the answer is 304 without a body
        time.sleep(int(reply.headers["Retry-After"]))
    return reply.json()["result"]


text = submit("llm.completion", prompt="Once upon a time", n_predict=24)
seen = list(islice(events(text), 5))  # here the connection is lost
seen += events(text, after=seen[-1]["id"])
if "".join(event["data"]["content"] for event in seen if event["event"] == "chunk") != result(text)["content"]:
    raise SystemExit("something was lost or came twice")
image = result(submit("sd.txt2img", prompt="a lighthouse", steps=2))["images"][0]["url"]
Path("lighthouse.png").write_bytes(http.get(URL + image).content)
