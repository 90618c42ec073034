"""Submit a task, poll it, watch it, lose the connection, go on where it broke off, fetch an image."""

import json, os, sys, time, uuid  # noqa: E401

import requests

URL, http = os.environ["GRAYCAT_URL"], requests.Session()
http.headers["Authorization"] = "Bearer " + os.environ["GRAYCAT_TOKEN"]

def submit(kind, **given):  # with a key, a submit may be sent again without making a second task
    body, key = {"kind": kind, "input": given}, {"Idempotency-Key": str(uuid.uuid4())}
    return URL + http.post(f"{URL}/tasks", json=body, headers=key).headers["Location"]

def events(task, after="0"):
    headers = {"Last-Event-ID": after}
    with http.get(f"{task}/events?format=ndjson", headers=headers, stream=True) as reply:
        yield from (json.loads(line) for line in reply.iter_lines() if line)

def result(task, tag=None):
    while "Retry-After" in (reply := http.get(task, headers={"If-None-Match": tag})).headers:
        tag = reply.headers["ETag"]  # 304 as long as nothing has changed
        time.sleep(int(reply.headers["Retry-After"]))
    return reply.json()["result"]

text = submit("llm.completion", prompt="Once upon a time", n_predict=24)
seen = [event for event, _ in zip(events(text), range(5))]  # and hang up
seen += events(text, after=seen[-1]["id"])
print("".join(e["data"]["content"] for e in seen if e["event"] == "chunk") == result(text)["content"])
image = result(submit("sd.txt2img", prompt="a lighthouse", steps=2))["images"][0]["url"]
sys.stdout.buffer.write(http.get(URL + image).content)
