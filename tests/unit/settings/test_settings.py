from __future__ import annotations

import os
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from graycat.errors import SettingsError
from graycat.settings import Settings, cast, variable
from graycat.settings.broker import MAX_SOCKET_PATH
from tests.support.helpers import changed

#: Every setting: its variable, what somebody may write, and what graycat reads.
READ = [
    ("llm_min_workers", "GRAYCAT_LLM_MIN_WORKERS", "0", 0),
    ("llm_max_workers", "GRAYCAT_LLM_MAX_WORKERS", "20", 20),
    ("llm_batch_workers", "GRAYCAT_LLM_BATCH_WORKERS", "3", 3),
    ("sd_min_workers", "GRAYCAT_SD_MIN_WORKERS", "0", 0),
    ("sd_max_workers", "GRAYCAT_SD_MAX_WORKERS", "20", 20),
    ("sd_batch_workers", "GRAYCAT_SD_BATCH_WORKERS", "3", 3),
    ("scale_wait_s", "GRAYCAT_SCALE_WAIT_S", "90", 90.0),
    ("scale_batch_s", "GRAYCAT_SCALE_BATCH_S", "90", 90.0),
    ("scale_start_s", "GRAYCAT_SCALE_START_S", "90", 90.0),
    ("scale_down_s", "GRAYCAT_SCALE_DOWN_S", "90", 90.0),
    ("schedule_tick_s", "GRAYCAT_SCHEDULE_TICK_S", "0.5", 0.5),
    ("schedules_file", "GRAYCAT_SCHEDULES_FILE", "/etc/graycat/s.toml", Path("/etc/graycat/s.toml")),
    ("batch_dir", "GRAYCAT_BATCH_DIR", "/srv/batches", "/srv/batches"),
    ("batch_stores", "GRAYCAT_BATCH_STORES", "art=s3://bucket/art", "art=s3://bucket/art"),
    ("batch_max_items", "GRAYCAT_BATCH_MAX_ITEMS", "50", 50),
    ("batch_max_live", "GRAYCAT_BATCH_MAX_LIVE", "5", 5),
    ("batch_ttl_s", "GRAYCAT_BATCH_TTL_S", "60", 60.0),
    ("metrics_port", "GRAYCAT_METRICS_PORT", "9820", 9820),
    ("metrics_host", "GRAYCAT_METRICS_HOST", "10.0.0.7", "10.0.0.7"),
    ("metrics_token", "GRAYCAT_METRICS_TOKEN", "sixteen-letters!", "sixteen-letters!"),
    ("traces_url", "GRAYCAT_TRACES_URL", "https://collector:4318", "https://collector:4318"),
    ("flower", "GRAYCAT_FLOWER", "false", False),
    ("flower_host", "GRAYCAT_FLOWER_HOST", "10.0.0.7", "10.0.0.7"),
    ("flower_password", "GRAYCAT_FLOWER_PASSWORD", "sixteen-letters!", "sixteen-letters!"),
    ("exporter", "GRAYCAT_EXPORTER", "true", True),
    ("exporter_python", "GRAYCAT_EXPORTER_PYTHON", "/srv/exporter/bin/python", Path("/srv/exporter/bin/python")),
    ("max_body_bytes", "GRAYCAT_MAX_BODY_BYTES", "1000", 1000),
    ("max_image_body_bytes", "GRAYCAT_MAX_IMAGE_BODY_BYTES", "2000", 2000),
    ("max_prompt_chars", "GRAYCAT_MAX_PROMPT_CHARS", "5000", 5000),
    ("max_connections", "GRAYCAT_MAX_CONNECTIONS", "7", 7),
    ("max_connections_per_address", "GRAYCAT_MAX_CONNECTIONS_PER_ADDRESS", "7", 7),
    ("max_half_open", "GRAYCAT_MAX_HALF_OPEN", "7", 7),
    ("max_half_open_per_address", "GRAYCAT_MAX_HALF_OPEN_PER_ADDRESS", "7", 7),
    ("trusted_addresses", "GRAYCAT_TRUSTED_ADDRESSES", "10.0.0.0/8, fd00::1", "10.0.0.0/8, fd00::1"),
    ("public_url", "GRAYCAT_PUBLIC_URL", "https://play.example/gpu", "https://play.example/gpu"),
    ("cors_origins", "GRAYCAT_CORS_ORIGINS", "https://game.example", "https://game.example"),
    ("proxy_protocol_port", "GRAYCAT_PROXY_PROTOCOL_PORT", "8001", 8001),
    ("forwarded_from", "GRAYCAT_FORWARDED_FROM", "10.0.0.0/8", "10.0.0.0/8"),
    ("head_timeout_s", "GRAYCAT_HEAD_TIMEOUT_S", "1.5", 1.5),
    ("body_timeout_s", "GRAYCAT_BODY_TIMEOUT_S", "1.5", 1.5),
    ("body_min_rate", "GRAYCAT_BODY_MIN_RATE", "7", 7),
    ("write_timeout_s", "GRAYCAT_WRITE_TIMEOUT_S", "1.5", 1.5),
    ("idle_timeout_s", "GRAYCAT_IDLE_TIMEOUT_S", "1.5", 1.5),
    ("max_bodies_bytes", "GRAYCAT_MAX_BODIES_BYTES", "7", 7),
    ("max_json_depth", "GRAYCAT_MAX_JSON_DEPTH", "7", 7),
    ("max_items", "GRAYCAT_MAX_ITEMS", "7", 7),
    ("max_answers", "GRAYCAT_MAX_ANSWERS", "7", 7),
    ("max_probs", "GRAYCAT_MAX_PROBS", "7", 7),
    ("max_words", "GRAYCAT_MAX_WORDS", "7", 7),
    ("max_word_chars", "GRAYCAT_MAX_WORD_CHARS", "7", 7),
    ("max_logit_bias", "GRAYCAT_MAX_LOGIT_BIAS", "7", 7),
    ("max_samplers", "GRAYCAT_MAX_SAMPLERS", "7", 7),
    ("max_tools", "GRAYCAT_MAX_TOOLS", "7", 7),
    ("max_grammar_bytes", "GRAYCAT_MAX_GRAMMAR_BYTES", "7", 7),
    ("max_grammar_rules", "GRAYCAT_MAX_GRAMMAR_RULES", "7", 7),
    ("max_grammar_alternatives", "GRAYCAT_MAX_GRAMMAR_ALTERNATIVES", "7", 7),
    ("max_repetition", "GRAYCAT_MAX_REPETITION", "7", 7),
    ("max_grammar_size", "GRAYCAT_MAX_GRAMMAR_SIZE", "7", 7),
    ("max_schema_bytes", "GRAYCAT_MAX_SCHEMA_BYTES", "7", 7),
    ("max_schema_nodes", "GRAYCAT_MAX_SCHEMA_NODES", "7", 7),
    ("max_schema_properties", "GRAYCAT_MAX_SCHEMA_PROPERTIES", "7", 7),
    ("max_pixels", "GRAYCAT_MAX_PIXELS", "262144", 262144),
    ("max_side", "GRAYCAT_MAX_SIDE", "1024", 1024),
    ("max_images", "GRAYCAT_MAX_IMAGES", "4", 4),
    ("max_steps", "GRAYCAT_MAX_STEPS", "30", 30),
    ("max_image_bytes", "GRAYCAT_MAX_IMAGE_BYTES", "1000000", 1_000_000),
    ("max_image_pixels", "GRAYCAT_MAX_IMAGE_PIXELS", "1048576", 1_048_576),
    ("sd_override_settings", "GRAYCAT_SD_OVERRIDE_SETTINGS", "sd_vae", "sd_vae"),
    ("sd_fields", "GRAYCAT_SD_FIELDS", "mood", "mood"),
    ("sd_scripts", "GRAYCAT_SD_SCRIPTS", "X/Y/Z plot,ADetailer", "X/Y/Z plot,ADetailer"),
    ("stored_bytes_per_player", "GRAYCAT_STORED_BYTES_PER_PLAYER", "1000", 1000),
    ("stored_bytes_per_token", "GRAYCAT_STORED_BYTES_PER_TOKEN", "1000", 1000),
    ("stored_bytes", "GRAYCAT_STORED_BYTES", "1000", 1000),
    ("queue_cap", "GRAYCAT_QUEUE_CAP", "7", 7),
    ("admins", "GRAYCAT_ADMINS", "tools", "tools"),
    ("revoked_tasks", "GRAYCAT_REVOKED_TASKS", "finish", "finish"),
    ("queue_ttl_s", "GRAYCAT_QUEUE_TTL_S", "1.5", 1.5),
    ("exec_timeout_s", "GRAYCAT_EXEC_TIMEOUT_S", "30", 30.0),
    ("quick_timeout_s", "GRAYCAT_QUICK_TIMEOUT_S", "3", 3.0),
    ("max_attempts", "GRAYCAT_MAX_ATTEMPTS", "5", 5),
    ("record_ttl_s", "GRAYCAT_RECORD_TTL_S", "60", 60.0),
    ("events_ttl_s", "GRAYCAT_EVENTS_TTL_S", "20", 20.0),
    ("retry_body_bytes", "GRAYCAT_RETRY_BODY_BYTES", "1000", 1000),
    ("artifacts_url", "GRAYCAT_ARTIFACTS_URL", "s3://bucket/images", "s3://bucket/images"),
    ("artifact_ttl_s", "GRAYCAT_ARTIFACT_TTL_S", "60", 60.0),
    ("webhook_key", "GRAYCAT_WEBHOOK_KEY", "sixteen-letters!", "sixteen-letters!"),
    ("webhook_allow", "GRAYCAT_WEBHOOK_ALLOW", "hooks.lan:9000,10.0.0.0/8", "hooks.lan:9000,10.0.0.0/8"),
    ("lease_s", "GRAYCAT_LEASE_S", "2.5", 2.5),
    ("llm_gpus", "LLM_GPUS", "0,1", "0,1"),
    ("sd_gpus", "SD_GPUS", "auto", "auto"),
    ("engine_api_key", "GRAYCAT_ENGINE_API_KEY", "sixteen-letters!", "sixteen-letters!"),
    ("engine_kill_after_s", "GRAYCAT_ENGINE_KILL_AFTER_S", "5", 5.0),
    ("a1111_url", "A1111_URL", "http://box:7860", "http://box:7860"),
    ("sd_startup_command", "SD_STARTUP_COMMAND", "webui.sh --port {port}", "webui.sh --port {port}"),
    ("comfyui_url", "COMFYUI_URL", "http://box:8188", "http://box:8188"),
    ("comfyui_startup_command", "COMFYUI_STARTUP_COMMAND", "comfy --port {port}", "comfy --port {port}"),
    ("comfyui_workflows", "GRAYCAT_COMFYUI_WORKFLOWS", "/srv/workflows", "/srv/workflows"),
    ("comfyui_strip_workflow", "GRAYCAT_COMFYUI_STRIP_WORKFLOW", "true", True),
    ("sd_queue_ttl_s", "GRAYCAT_SD_QUEUE_TTL_S", "300", 300.0),
    ("sd_exec_timeout_s", "GRAYCAT_SD_EXEC_TIMEOUT_S", "120", 120.0),
    ("llama_server_url", "LLAMA_SERVER_URL", "http://box:1337", "http://box:1337"),
    ("startup_command", "STARTUP_COMMAND", "llama-server -m {model}", "llama-server -m {model}"),
    ("model_url", "MODEL_URL", "/models/a.gguf", "/models/a.gguf"),
    ("gpu_layers", "GPU_LAYERS", "99", 99),
    ("llm_slots", "GRAYCAT_LLM_SLOTS", "8", 8),
    ("model_aliases", "GRAYCAT_MODEL_ALIASES", "gpt-4o=qwen", "gpt-4o=qwen"),
    ("unknown_model", "GRAYCAT_UNKNOWN_MODEL", "serve", "serve"),
    ("router_model", "GRAYCAT_ROUTER_MODEL", "qwen", "qwen"),
    ("router_load_timeout_s", "GRAYCAT_ROUTER_LOAD_TIMEOUT_S", "60", 60),
    ("llm_embeddings", "GRAYCAT_LLM_EMBEDDINGS", "true", True),
    ("llm_context", "GRAYCAT_LLM_CONTEXT", "4096", 4096),
    ("llm_threads", "GRAYCAT_LLM_THREADS", "2", 2),
    ("llm_prompt_cache_mib", "GRAYCAT_LLM_PROMPT_CACHE_MIB", "0", 0),
    ("sd_model_url", "SD_MODEL_URL", "hf://o/r/a.safetensors", "hf://o/r/a.safetensors"),
    ("lora_url", "LORA_URL", "https://a/b.safetensors c", "https://a/b.safetensors c"),
    ("usage_days", "GRAYCAT_USAGE_DAYS", "31", 31),
    ("vae_url", "VAE_URL", "https://a/v.safetensors", "https://a/v.safetensors"),
    ("allow_pickle", "GRAYCAT_ALLOW_PICKLE", "true", True),
    ("hf_token", "HF_TOKEN", "hf_abc", "hf_abc"),
    ("hf_endpoint", "HF_ENDPOINT", "https://hub.lan", "https://hub.lan"),
    ("hf_hub_offline", "HF_HUB_OFFLINE", "1", True),
    ("api_tokens", "API_TOKENS", "game:abcdefgh", "game:abcdefgh"),
    ("token_key", "GRAYCAT_TOKEN_KEY", "k" * 32, "k" * 32),
    ("home", "GRAYCAT_HOME", "/srv/graycat", Path("/srv/graycat")),
    ("remote", "REMOTE", "", None),
    ("box", "GRAYCAT_BOX", "box7", "box7"),
    ("redis_url", "REDIS_URL", "rediss://:pw@host:1/2", "rediss://:pw@host:1/2"),
    ("redis_host", "REDIS_HOST", "broker.lan", "broker.lan"),
    ("redis_pass", "REDIS_PASS", "pass word", "pass word"),
    ("redis_ca_file", "GRAYCAT_REDIS_CA_FILE", "", ""),
    ("sentinel_username", "GRAYCAT_SENTINEL_USERNAME", "", ""),
    ("sentinel_password", "GRAYCAT_SENTINEL_PASSWORD", "", ""),
    ("broker_max_memory_mib", "GRAYCAT_BROKER_MAX_MEMORY_MIB", "500", 500),
    ("host", "HOST", "0.0.0.0", "0.0.0.0"),  # noqa: S104
    ("port", "PORT", "8080", 8080),
    ("llm_port", "LLM_PORT", "1338", 1338),
    ("sd_port", "SD_PORT", "7861", 7861),
    ("flower_port", "FLOWER_PORT", "5556", 5556),
    ("exporter_port", "EXPORTER_PORT", "9809", 9809),
    ("run_llm", "RUN_LLM", "false", False),
    ("run_sd", "RUN_SD", "0", False),
    ("keepalive_s", "GRAYCAT_KEEPALIVE_S", "1", 1.0),
    ("web_workers", "GRAYCAT_WEB_WORKERS", "2", 2),
    ("stop_grace_s", "GRAYCAT_STOP_GRACE_S", "3", 3.0),
    ("log_level", "GRAYCAT_LOG_LEVEL", "DEBUG", "DEBUG"),
]

#: Values that nothing can run with.
UNUSABLE = [
    ("PORT", "eighty"),
    ("PORT", "80.5"),
    ("PORT", "-1"),
    ("PORT", "65536"),
    ("PORT", "1337"),
    ("LLM_PORT", " "),
    ("GPU_LAYERS", "all"),
    ("GRAYCAT_METRICS_PORT", "65500"),
    ("GRAYCAT_METRICS_PORT", "-1"),
    ("GRAYCAT_METRICS_TOKEN", "fifteen-letters"),
    ("GRAYCAT_FLOWER_PASSWORD", "fifteen-letters"),
    ("GRAYCAT_LLM_SLOTS", "0"),
    ("GRAYCAT_LLM_SLOTS", "-1"),
    ("GRAYCAT_MAX_BODY_BYTES", "0"),
    ("GRAYCAT_MAX_CONNECTIONS", "0"),
    ("GRAYCAT_TRUSTED_ADDRESSES", "proxy.lan"),
    ("GRAYCAT_TRUSTED_ADDRESSES", "10.0.0.1/8"),
    ("GRAYCAT_HEAD_TIMEOUT_S", "0"),
    ("GRAYCAT_QUEUE_TTL_S", "0"),
    ("GRAYCAT_QUEUE_TTL_S", "soon"),
    ("GRAYCAT_QUEUE_TTL_S", "nan"),
    ("GRAYCAT_EXEC_TIMEOUT_S", "-5"),
    ("GRAYCAT_EXEC_TIMEOUT_S", "inf"),
    ("GRAYCAT_LEASE_S", "0"),
    ("GRAYCAT_SD_QUEUE_TTL_S", "0"),
    ("GRAYCAT_SD_EXEC_TIMEOUT_S", "-1"),
    ("GRAYCAT_MAX_IMAGE_BODY_BYTES", "0"),
    ("RUN_SD", "maybe"),
    ("GRAYCAT_MAX_PIXELS", "0"),
    ("GRAYCAT_MAX_STEPS", "-1"),
    ("GRAYCAT_MAX_IMAGE_BYTES", "16 MB"),
    ("GRAYCAT_ARTIFACT_TTL_S", "0"),
    ("GRAYCAT_WEBHOOK_KEY", "fifteen-letters"),
    ("GRAYCAT_TRACES_URL", "collector:4318"),
    ("GRAYCAT_KEEPALIVE_S", "0"),
    ("GRAYCAT_MAX_ATTEMPTS", "0"),
    ("GRAYCAT_WEB_WORKERS", "0"),
    ("GRAYCAT_TOKEN_KEY", "k" * 31),
    ("GRAYCAT_LOG_LEVEL", "CHATTY"),
    ("GRAYCAT_ENGINE_API_KEY", "fifteen-letters"),
    ("GRAYCAT_REDIS_CA_FILE", "/ca.pem"),
    ("GRAYCAT_SENTINEL_PASSWORD", "of-no-sentinel"),
    ("GRAYCAT_SENTINEL_USERNAME", "of-no-sentinel"),
    ("REDIS_URL", "http://broker.lan"),
    ("REDIS_URL", "broker.lan:6379"),
    ("REDIS_URL", "sentinel://one,two"),
    ("REDIS_URL", "redis://broker.lan:99999/0"),
    ("REDIS_URL", "redis://:half#password@broker.lan:6379/0"),
    ("REDIS_URL", "redis://[::1/0"),
    ("REMOTE", "true"),
    ("REMOTE", "false"),
    ("REMOTE", "maybe"),
]


@pytest.mark.parametrize(("name", "env", "text", "value"), READ, ids=[row[1] for row in READ])
def test_every_setting_comes_from_its_variable(name: str, env: str, text: str, value: Any) -> None:
    assert getattr(Settings.from_env({env: text}), name) == value
    assert variable(name) == env


def test_the_table_above_is_complete() -> None:
    assert sorted(row[0] for row in READ) == sorted(field.name for field in fields(Settings))


@pytest.mark.parametrize("family", ["LLM", "SD"])
def test_no_family_has_more_workers_at_least_than_at_most(family: str) -> None:
    env = {f"GRAYCAT_{family}_MIN_WORKERS": "5", f"GRAYCAT_{family}_MAX_WORKERS": "4"}
    with pytest.raises(SettingsError, match=f"GRAYCAT_{family}_MIN_WORKERS must not be more"):
        Settings.from_env(env)


def test_what_nobody_sets_has_its_default() -> None:
    assert Settings.from_env({}) == Settings()
    assert Settings.from_env({env: "" for _, env, _, _ in READ}) == Settings()


def test_blanks_around_a_value_are_no_part_of_it() -> None:
    assert Settings.from_env({"PORT": " 8080\n", "MODEL_URL": " /models/a.gguf "}) == Settings(
        port=8080, model_url="/models/a.gguf"
    )


@pytest.mark.parametrize(("env", "text"), UNUSABLE)
def test_a_value_that_cannot_be_used_names_its_variable(env: str, text: str) -> None:
    with pytest.raises(SettingsError, match=env) as caught:
        Settings.from_env({env: text})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("1", True), ("false", False), ("0", False)]
)
def test_a_switch_is_on_or_off(text: str, value: bool) -> None:
    assert cast({"PORT": text}, "port", bool) is value


@pytest.mark.parametrize("text", ["yes", "on", "2", "-1"])
def test_a_switch_is_nothing_else(text: str) -> None:
    with pytest.raises(SettingsError, match="PORT"):
        cast({"PORT": text}, "port", bool)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


def test_a_dotenv_file_lies_beneath_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("PORT=1\nLLM_PORT=2\n# a comment\nREDIS_PASS='a b'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "3")
    for name in ("LLM_PORT", "REDIS_PASS"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings.from_env()
    assert (settings.port, settings.llm_port, settings.redis_pass) == (3, 2, "a b")


def test_without_a_dotenv_file_the_environment_is_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "3")
    assert Settings.from_env().port == 3


def test_the_broker_listens_in_home(tmp_path: Path) -> None:
    settings = Settings(home=Path("/srv/graycat"))
    assert settings.broker_socket == Path("/srv/graycat/broker/valkey.sock")
    assert settings.broker_url == "unix:///srv/graycat/broker/valkey.sock"
    assert settings.embedded_broker


def test_a_socket_path_that_the_kernel_would_refuse_is_replaced() -> None:
    one, other = (Settings(home=Path("/srv") / (letter * 100)).broker_socket for letter in "ab")
    assert len(os.fsencode(one)) <= MAX_SOCKET_PATH
    assert one != other
    assert one == Settings(home=Path("/srv") / ("a" * 100)).broker_socket
    assert str(os.getuid()) in one.parent.name


def test_the_length_of_a_socket_path_counts_in_bytes() -> None:
    home = Path("/srv") / ("ü" * 40)
    assert not Settings(home=home).broker_socket.is_relative_to(home)


@pytest.mark.parametrize("password", ["plain", "p@ss/w:rd?#%", "with space", "ümläut", "a+b&c=d"])
def test_a_password_survives_in_the_broker_s_address(password: str) -> None:
    url = urlsplit(Settings(redis_host="broker.lan", redis_pass=password).broker_url)
    assert (url.scheme, url.hostname, url.port, url.path) == ("redis", "broker.lan", 6379, "/0")
    assert (url.username, unquote(url.password or "")) == ("", password)


def test_a_broker_elsewhere_needs_no_password() -> None:
    settings = Settings(redis_host="broker.lan")
    assert (settings.broker_url, settings.embedded_broker) == ("redis://broker.lan:6379/0", False)


def test_a_whole_address_wins_over_a_host() -> None:
    settings = Settings(redis_url="redis://:pw@elsewhere:1/2", redis_host="broker.lan")
    assert (settings.broker_url, settings.embedded_broker) == ("redis://:pw@elsewhere:1/2", False)


def test_the_text_engine_is_ours_unless_one_runs_already() -> None:
    assert (Settings(llm_port=1).llm_url, Settings().owns_llm_engine) == ("http://127.0.0.1:1", True)
    adopted = Settings(llama_server_url="http://box:1337/")
    assert (adopted.llm_url, adopted.owns_llm_engine) == ("http://box:1337", False)


def test_secrets_are_not_in_the_representation() -> None:
    settings = Settings(
        api_tokens="game:hush-hush",
        redis_pass="pass-word",
        redis_url="redis://:url-word@host",
        artifacts_url="sftp://me:file-word@host/images",
        a1111_url="http://me:webui-word@box",
        webhook_key="hook-word-hook-word",
        token_key="key-word" * 4,
    )
    words = ("hush-hush", "pass-word", "url-word", "file-word", "webui-word", "key-word", "hook-word")
    assert not [word for word in words if word in repr(settings)]
    assert settings.token_key in settings.secrets


def test_the_log_is_told_every_secret_as_a_caller_would_send_it() -> None:
    settings = Settings(api_tokens=" game:hush-hush , bare-secret ,", redis_pass="p@ss", redis_url="redis://:x@host")
    settings = changed(settings, webhook_key="hook-word-hook-word")
    assert set(settings.secrets) >= {"hush-hush", "bare-secret", "p@ss", "redis://:x@host", "hook-word-hook-word"}
    assert "" not in settings.secrets


def test_the_log_is_told_the_password_as_it_stands_in_the_address() -> None:
    settings = Settings(redis_host="broker.lan", redis_pass="p@ss")
    assert any(secret in settings.broker_url for secret in settings.secrets)


def test_the_log_is_told_the_password_of_the_image_engine() -> None:
    assert set(Settings(a1111_url="http://me:p%40ss@box:7860").secrets) == {"p%40ss", "p@ss"}


def test_the_log_is_told_the_password_of_the_images_store() -> None:
    settings = Settings(artifacts_url="sftp://me:p%40ss@host/images")
    assert set(settings.secrets) == {"p%40ss", "p@ss", "sftp://me:p%40ss@host/images"}


@pytest.mark.parametrize(("text", "remote"), [("true", True), ("1", True), ("false", False), ("", None)])
def test_a_box_works_for_others_alone_or_for_itself(text: str, remote: bool | None) -> None:
    env = {"REMOTE": text, "REDIS_HOST": "elsewhere", "GRAYCAT_ENGINE_API_KEY": "sixteen-letters!"}
    settings = Settings.from_env(env)
    assert settings.remote is remote
    assert (settings.engine_host == "127.0.0.1") is (remote is not False)


def test_metrics_are_open_to_others_only_with_a_token() -> None:
    with pytest.raises(SettingsError, match="GRAYCAT_METRICS_TOKEN"):
        Settings(metrics_port=9820, metrics_host="10.0.0.7")
    assert Settings(metrics_port=9820, metrics_host="10.0.0.7", metrics_token="t" * 16).metrics_port
    assert Settings(metrics_port=9820).metrics_host == "127.0.0.1"


def test_a_ca_goes_with_an_encrypted_broker(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    assert Settings(redis_url="rediss://box/0", redis_ca_file=str(ca_file)).broker_url.endswith(f"ca_certs={ca_file}")
    for url in ("redis://box/0", ""):
        with pytest.raises(SettingsError, match="rediss://"):
            Settings(redis_url=url, redis_ca_file=str(ca_file))
    with pytest.raises(SettingsError, match="cannot be read"):
        Settings(redis_url="rediss://box/0", redis_ca_file=str(tmp_path / "none.pem"))


def test_tracing_without_its_packages_is_one_line_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graycat.settings.extras.TRACING", ("opentelemetry_that_is.not_there",))
    with pytest.raises(
        SettingsError, match=r"GRAYCAT_TRACES_URL needs more packages: pip install 'graycat\[tracing\]'"
    ):
        Settings(traces_url="http://collector:4318")


def test_a_password_of_the_collector_is_a_secret() -> None:
    assert "p@ss" in Settings(traces_url="https://me:p%40ss@collector:4318").secrets


def test_all_that_is_wrong_is_told_the_first_in_the_message() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"PORT": "web", "GRAYCAT_LLM_SLOTS": "0", "REMOTE": "true", "GRAYCAT_TRACES_URL": "ftp://x"})
    found = [problem.split()[0] for problem in caught.value.problems]
    assert found == ["PORT", "GRAYCAT_LLM_SLOTS", "REMOTE=true", "GRAYCAT_TRACES_URL"]
    assert str(caught.value) == caught.value.problems[0]
