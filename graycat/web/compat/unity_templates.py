"""Names of chat templates, for "LLM for Unity" v2: it writes prompts itself, by one of the templates that it knows.

It asks the server for the name and looks it up; a name that it does not know is an exception in the game. So only names
are answered that every release with an API key knows (2.2.3 to 2.5.2). The asset's own server tells the name with which
it was started; here it is found by the marks that the template of the loaded model (Jinja) writes around messages.
"""

from __future__ import annotations

from typing import Final

#: What the asset takes itself where it recognises nothing.
DEFAULT: Final = "chatml"

#: The first entry whose marks are all in the template.
_MARKS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("chatml", ("<|im_start|>",)),
    ("llama3 chat", ("<|start_header_id|>",)),
    ("gemma", ("<start_of_turn>",)),
    ("phi-3", ("<|assistant|>", "<|end|>")),
    ("zephyr", ("<|assistant|>",)),
    ("llama", ("[INST]", "<<SYS>>")),
    ("mistral instruct", ("[INST]",)),
    ("vicuna", ("USER:", "ASSISTANT:")),
    ("alpaca", ("### Instruction",)),
)


def template_name(jinja: str) -> str:
    """Return the name of the template that is most like a model's own."""
    return next((name for name, marks in _MARKS if all(mark in jinja for mark in marks)), DEFAULT)
