"""Names of templates that "LLM for Unity" v2 looks up, by what models' own templates write."""

from __future__ import annotations

import pytest

from graycat.web.compat.unity_templates import template_name

#: What each release from 2.2.3 to 2.5.2 of the asset can look up; any other name is an exception in the game.
KNOWN = {
    *("alpaca", "chatml", "gemma", "llama", "llama chat", "llama3 chat", "mistral chat", "mistral instruct"),
    *("phi", "phi-3", "vicuna", "zephyr"),
}


#: By what is written around a message.
WRITTEN = {
    "<|im_start|>' + role + '\\n' + content + '<|im_end|>": "chatml",
    "<|im_start|>' + role + '<|im_sep|>' + content + '<|im_end|>": "chatml",
    "<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' + content + '<|eot_id|>": "llama3 chat",
    "<start_of_turn>' + role + '\\n' + content | trim + '<end_of_turn>\\n": "gemma",
    "<|user|>\\n' + content + '<|end|>\\n<|assistant|>\\n": "phi-3",
    "<|user|>\\n' + content + eos_token + '<|assistant|>": "zephyr",
    "[INST] <<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + content + ' [/INST]": "llama",
    "[INST] ' + content + ' [/INST]": "mistral instruct",
    "USER: ' + content + ' ASSISTANT:": "vicuna",
    "### Instruction:\\n' + content + '\\n\\n### Response:\\n": "alpaca",
    "<｜User｜>' + content + '<｜Assistant｜>": "chatml",
    "": "chatml",
}


@pytest.mark.parametrize("written", WRITTEN)
def test_a_template_is_known_by_its_marks(written: str) -> None:
    name = template_name(f"{{% for message in messages %}}{{{{ '{written}' }}}}{{% endfor %}}")
    assert name == WRITTEN[written]
    assert name in KNOWN
