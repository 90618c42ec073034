"""The embedded engine, its model behind a chat template that knows tools; the packaged model brings none.

Run as ``python tools_engine.py``; the options are those of ``graycat.engines.embedded``.
"""

from __future__ import annotations

import xllamacpp

from graycat.engines import embedded

#: ChatML with tools, as Qwen's and Hermes's models write them.
TEMPLATE = """\
{%- if tools -%}
<|im_start|>system
# Tools
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
For each call, write a JSON object within <tool_call></tool_call>:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif -%}
{%- for message in messages -%}
{%- if message.role == "assistant" and message.tool_calls -%}
<|im_start|>assistant
{%- if message.content %}
{{ message.content }}
{%- endif %}
{%- for call in message.tool_calls %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor -%}
<|im_end|>
{% elif message.role == "tool" -%}
<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% else -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""


class Params(xllamacpp.CommonParams):
    """The engine's parameters, with the template."""

    def __init__(self) -> None:
        super().__init__()
        self.chat_template = TEMPLATE
        self.use_jinja = True


if __name__ == "__main__":
    xllamacpp.CommonParams = Params
    embedded.main()
