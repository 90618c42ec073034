"""What a text engine tells about itself, as it leaves its worker: known fields alone, and its models by their names.

The fields are those of llama.cpp's ``/props`` and ``/v1/models`` (``tools/server/README.md``, builds 3000 to 11549).
Any other may hold what is nobody's business: a router lists the command line of each of its servers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from graycat.bounds.stored import write_json
from graycat.redaction.paths import model_name

Json = dict[str, Any]

#: Fields whose values are no objects, by the object that they are in.
_PROPS = frozenset(
    {
        *("total_slots", "model", "model_alias", "model_ftype", "model_path", "media_marker", "chat_template"),
        *("chat_template_tool_use", "bos_token", "eos_token", "build_info", "is_sleeping", "webui", "ui"),
        *("endpoint_slots", "endpoint_props", "endpoint_metrics", "cors_proxy_enabled"),
    }
)
_SETTINGS = frozenset(
    {
        *("id", "id_task", "n_ctx", "speculative", "is_processing", "state", "model", "prompt", "grammar"),
        *("adaptive_decay", "adaptive_target", "backend_sampling", "chat_format", "dry_allowed_length", "dry_base"),
        *("dry_multiplier", "dry_penalty_last_n", "dry_sequence_breakers", "dynatemp_exponent", "dynatemp_range"),
        *("frequency_penalty", "generation_prompt", "grammar_lazy", "grammar_triggers", "ignore_eos"),
        *("logit_bias", "lora", "max_tokens", "min_keep", "min_p", "mirostat", "mirostat_eta", "mirostat_tau"),
        *("n_discard", "n_keep", "n_predict", "n_probs", "penalize_nl", "penalty_prompt_tokens", "tfs_z"),
        *("post_sampling_probs", "presence_penalty", "preserved_tokens", "reasoning_format", "reasoning_in_content"),
        *("repeat_last_n", "repeat_penalty", "samplers", "seed", "speculative.n_max", "speculative.n_min"),
        *("speculative.p_min", "speculative.types", "stop", "stream", "temperature", "thinking_forced_open"),
        *("timings_per_token", "top_k", "top_n_sigma", "top_p", "typical_p", "use_penalty_prompt_tokens"),
        *("xtc_probability", "xtc_threshold"),
    }
)
_MODEL = frozenset({"id", "object", "created", "owned_by", "aliases", "tags"})
_META = frozenset({"vocab_type", "n_vocab", "n_ctx", "n_ctx_train", "n_embd", "n_params", "size", "ftype"})
_OLLAMA_MODEL = frozenset(
    {"name", "model", "modified_at", "size", "digest", "type", "description", "tags", "capabilities", "parameters"}
)
_DETAILS = frozenset({"parent_model", "format", "family", "families", "parameter_size", "quantization_level"})
_STATUS = frozenset({"value", "failed"})
_ARCHITECTURE = frozenset({"input_modalities", "output_modalities"})
#: Fields that hold names of models.
_NAMES = frozenset({"id", "name", "model", "aliases"})


def known_props(props: Json) -> Json:
    """Return the known fields of ``/props``. Raises AttributeError, TypeError if it is none."""
    known = _pick(props, _PROPS)
    settings = props.get("default_generation_settings")
    if isinstance(settings, dict):
        known_settings = _pick(settings, _SETTINGS)
        if isinstance(settings.get("params"), dict):
            known_settings["params"] = _pick(settings["params"], _SETTINGS)
        known["default_generation_settings"] = _in_order(known_settings, settings)
    for name in ("modalities", "chat_template_caps"):
        if isinstance(props.get(name), dict):
            known[name] = {key: value for key, value in props[name].items() if isinstance(value, bool)}
    return _in_order(known, props)


def known_models(model_list: Json) -> Json:
    """Return the known fields of ``/v1/models``, and all models by their names. Raises ValueError, TypeError."""
    known: Json = {}
    for name, value in model_list.items():
        if name == "object" and isinstance(value, str):
            known[name] = value
        elif name == "data":
            nested = {"meta": _META, "status": _STATUS, "architecture": _ARCHITECTURE}
            known[name] = [_known_model(entry, _MODEL, nested) for entry in value]
        elif name == "models" and isinstance(value, list):
            known[name] = [_known_model(entry, _OLLAMA_MODEL, {"details": _DETAILS}) for entry in value]
    return known


def _known_model(entry: Json, fields: frozenset[str], nested: Mapping[str, frozenset[str]]) -> Json:
    known = _pick(entry, fields)
    for name, nested_fields in nested.items():
        if isinstance(entry.get(name), dict):
            known[name] = _pick(entry[name], nested_fields)
    for name in _NAMES & known.keys():
        if isinstance(known[name], list):
            known[name] = [model_name(text) for text in known[name] if isinstance(text, str)]
        else:
            known[name] = model_name(str(known[name]))
    return _in_order(known, entry)


def _pick(value: Json, fields: frozenset[str]) -> Json:
    """Return the fields of an object; those that are objects themselves are left out."""
    return {name: field for name, field in value.items() if name in fields and not isinstance(field, dict)}


def _in_order(known: Json, value: Json) -> Json:
    return {name: known[name] for name in value if name in known}


def encode_known(known: Json, value: Json, reply: bytes) -> bytes:
    """Return the JSON of the known fields: the engine's own bytes if it has no others."""
    if known == value:
        return reply
    return write_json(known)


def replaced_names(names: Iterable[Any]) -> dict[bytes, bytes]:
    """Return the names of models that an engine calls by their files, by what it calls them; both as JSON strings."""
    replaced = {}
    for name in names:
        if not isinstance(name, str) or model_name(name) == name:
            continue
        shown = write_json(model_name(name))
        for text in (write_json(name), json.dumps(name).encode()):
            replaced[text] = shown
            replaced[text.replace(b"/", b"\\/")] = shown
    return replaced
