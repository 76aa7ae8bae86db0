"""Settings: where they come from, which wins, and how a mistake is told."""

import dataclasses
import json
import re
import signal
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs

from earlybird.engine.config import EngineConfig
from earlybird.engine.engine import Engine as LoadedEngine
from earlybird.stream import cli, service
from earlybird.stream.client import Signals
from earlybird.stream.config import settings
from earlybird.stream.config.engine import Engine
from earlybird.stream.config.redis import Redis
from earlybird.stream.config.report import HIDDEN, effective, fields
from earlybird.stream.config.settings import Settings, load
from earlybird.stream.config.tree import without_unreadable
from earlybird.stream.errors import SettingsError
from earlybird.stream.feeds import registry
from earlybird.stream.observability.health import HealthServer, Readiness
from earlybird.stream.run_worker import transactional_id
from earlybird.stream.startup_check import check


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("EARLYBIRD_"):
            monkeypatch.delenv(name)


def configured(**given: Any) -> Settings:
    """Settings from plain values, as a file gives them."""
    return Settings(**given)


def write(folder: Path, text: str) -> Path:
    path = folder / "earlybird.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_work_without_any_setting() -> None:
    """A process on a machine with a local broker needs no settings at all."""
    assert load().kafka.bootstrap_servers == "127.0.0.1:9092"
    assert [topic.name for topic in load().topics.raw] == ["news.raw", "tweets.raw"]
    assert load().engine.threads >= 1


def test_environment_wins_over_file_and_file_over_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same names in both; a group may be set half here, half there."""
    path = write(tmp_path, 'group = "file"\n[redis]\nttl_s = 60\nbudget_ms = 7\n')
    monkeypatch.setenv("EARLYBIRD_REDIS__TTL_S", "90")
    chosen = load(path)
    assert (chosen.group, chosen.redis.ttl_s, chosen.redis.budget_ms, chosen.redis.lease_ms) == ("file", 90, 7, 2_000)


def test_the_file_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container has no command line to change."""
    monkeypatch.setenv(settings.CONFIG_VARIABLE, str(write(tmp_path, 'policy = "full"')))
    assert load().policy == "full"


@pytest.mark.parametrize(
    "text",
    ['[kafka.options]\n"sasl.mechanism" = "PLAIN"', '[kafka.options]\nsasl.mechanism = "PLAIN"'],
    ids=["quoted", "nested"],
)
def test_client_options_from_a_file_keep_librdkafkas_names(tmp_path: Path, text: str) -> None:
    """TOML nests a dotted name that is not quoted; it means the same."""
    assert load(write(tmp_path, text)).kafka.options == {"sasl.mechanism": "PLAIN"}


def test_client_options_from_the_environment_have_dots_for_underscores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell cannot spell a dot; log_level is librdkafka's one name with an underscore."""
    monkeypatch.setenv("EARLYBIRD_KAFKA__OPTIONS__SSL_CA_LOCATION", "/ca.pem")
    monkeypatch.setenv("EARLYBIRD_KAFKA__OPTIONS__LOG_LEVEL", "6")
    assert load().kafka.options == {"ssl.ca.location": "/ca.pem", "log_level": "6"}
    monkeypatch.setenv("EARLYBIRD_KAFKA__OPTIONS", '{"debug": "cgrp", "enable.ssl.certificate.verification": false}')
    assert load().kafka.options["enable.ssl.certificate.verification"] == "false"


def test_secrets_are_read_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NAME_FILE in the environment and NAME_file in the file; the newline of an editor is no part of a password."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n", encoding="utf-8")
    monkeypatch.setenv("EARLYBIRD_KAFKA__OPTIONS__SASL_PASSWORD_FILE", str(secret))
    address = tmp_path / "address"
    address.write_text("redis://user:hunter2@cache\n", encoding="utf-8")
    chosen = load(write(tmp_path, f'[redis]\nurl_file = "{address}"'))
    assert chosen.kafka.options == {"sasl.password": "hunter2", "sasl.password.file": str(secret)}
    assert chosen.redis.url == "redis://user:hunter2@cache"


def test_the_password_file_of_a_nested_file_is_followed_too(tmp_path: Path) -> None:
    """Clients read it again; a key's password is not such a file."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2", encoding="utf-8")
    chosen = load(
        write(tmp_path, f'[kafka.options]\nsasl.password_file = "{secret}"\nssl.key.password_file = "{secret}"')
    )
    options = {"sasl.password": "hunter2", "sasl.password.file": str(secret), "ssl.key.password": "hunter2"}
    assert chosen.kafka.options == options


def test_a_secret_file_that_is_not_there_names_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator must learn which of many secrets is missing."""
    monkeypatch.setenv("EARLYBIRD_REDIS__URL_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"EARLYBIRD_REDIS__URL_FILE: cannot read .*none"):
        load()


def test_every_fault_is_named_once_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One start tells all mistakes: where, what, and what was probably meant."""
    path = write(tmp_path, 'polcy = "full"\n[kafka]\nbootstrap_server = "x"\n[http]\nport = 70000')
    monkeypatch.setenv("EARLYBIRD_REDIS__TTL_S", "-1")
    monkeypatch.setenv("EARLYBIRD_TOPICS__RAW", '[{"name": "wire", "format": "alpaka"}]')
    formats = ", ".join([*registry.OURS, *registry.names()])
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert str(caught.value).splitlines() == [
        "5 settings cannot work:",
        f"  kafka.bootstrap_server: no such setting; did you mean kafka.bootstrap_servers? ({path})",
        f"  topics.raw.0.format: one of {formats} required, was 'alpaka' (EARLYBIRD_TOPICS__RAW)",
        "  redis.ttl_s: must be greater than 0, was '-1' (EARLYBIRD_REDIS__TTL_S)",
        f"  http.port: must be less than or equal to 65535, was 70000 ({path})",
        f"  polcy: no such setting; did you mean policy? ({path})",
    ]


def test_a_misspelt_variable_is_refused_and_a_foreign_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes adds EARLYBIRD_SERVICE_HOST and EARLYBIRD_PORT_... beside a service of our name."""
    monkeypatch.setenv("EARLYBIRD_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("EARLYBIRD_PORT_9464_TCP", "tcp://10.0.0.1:9464")
    load()
    monkeypatch.setenv("EARLYBIRD_POLCY", "full")
    with pytest.raises(SettingsError, match="EARLYBIRD_POLCY: no such setting; did you mean EARLYBIRD_POLICY"):
        load()


def test_a_list_that_is_no_json_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable's group and the notation."""
    monkeypatch.setenv("EARLYBIRD_TOPICS__RAW", "news.raw,tweets.raw")
    with pytest.raises(SettingsError, match=r"topics.*written as JSON"):
        load()


def test_a_topic_that_is_read_and_written_is_refused(tmp_path: Path) -> None:
    """Signals that come back as texts would never end."""
    with pytest.raises(SettingsError, match=r"each topic has one use, used twice: news\.raw"):
        load(write(tmp_path, '[topics]\nsignals = "news.raw"'))


@pytest.mark.parametrize("text", ["group = ", "\xff".encode("latin-1").decode("latin-1") + " ="])
def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path: Path, text: str) -> None:
    """The message starts with the file."""
    path = write(tmp_path, text)
    with pytest.raises(SettingsError, match=r"earlybird\.toml: "):
        load(path)
    with pytest.raises(SettingsError, match=r"none\.toml: No such file"):
        load(tmp_path / "none.toml")


def test_secrets_are_hidden_in_what_is_shown_and_in_reprs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log, a ticket and a screen share must not hold a password."""
    monkeypatch.setenv("EARLYBIRD_REDIS__URL", "redis://user:hunter2@cache:6379/0")
    monkeypatch.setenv("EARLYBIRD_REDIS__SECRET", "hunter2 and a bit more")
    monkeypatch.setenv("EARLYBIRD_KAFKA__OPTIONS__SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("EARLYBIRD_KAFKA__OPTIONS__SASL_USERNAME", "quant")
    monkeypatch.setenv("EARLYBIRD_KAFKA__OPTIONS__SSL_KEY_PEM", "hunter2")
    chosen = load()
    shown = effective(chosen)
    assert shown["redis.url"] == f"redis://{HIDDEN}@cache:6379/0"
    assert shown["redis.secret"] == HIDDEN
    assert shown["kafka.options"] == {"sasl.password": HIDDEN, "sasl.username": "quant", "ssl.key.pem": HIDDEN}
    assert "hunter2" not in f"{shown} {chosen!r} {chosen}"
    assert shown["engine.token_budget"] == 512, "a number of tokens is no secret"


@pytest.mark.parametrize(
    "name",
    [
        "sasl.password", "ssl.key.password", "ssl.keystore.password", "ssl.key.pem", "sasl.jaas.config",
        "sasl.oauthbearer.config", "sasl.oauthbearer.client.secret", "sasl.oauthbearer.token",
        "sasl.oauthbearer.assertion.private.key.passphrase",
    ],
)  # fmt: skip
def test_client_options_that_hold_secrets_are_hidden_by_name(name: str) -> None:
    """Whatever librdkafka calls them."""
    assert effective(configured(kafka={"options": {name: "hunter2"}}))["kafka.options"] == {name: HIDDEN}


def test_what_is_no_secret_is_shown() -> None:
    """Of our own settings, whatever their names; of client options those that say where and how."""
    options = {"sasl.mechanism": "PLAIN", "ssl.ca.location": "/ca.pem", "client.rack": "a"}
    shown = effective(configured(kafka={"options": options}, model="models/v1@prod", engine={"token_budget": 64}))
    assert (shown["kafka.options"], shown["model"], shown["engine.token_budget"]) == (options, "models/v1@prod", 64)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@c", "rediss://u:1/hunter2@c", "redis://u:hunter2@hunter2@c", "redis://c?password=hunter2",
        "redis://u:%68unter2@c", "redis://u:1?hunter2@c", "redis://u:1#hunter2@c", "redis://u:hunter2@c,redis://:hunter2@d",
        "redis://c?PASSWORD=hunter2", "redis://c?pass%77ord=hunter2", "redis://c?ssl_password=a&hunter2",
        "redis://c/0&password=hunter2", "redis://c/0;password=hunter2", "redis://c#password=hunter2",
        "unix://u:hunter2@/run/redis.sock", "unix:///run/redis.sock?db=1&password=hunter2",
    ],
)  # fmt: skip
def test_no_spelling_of_a_url_shows_its_password(url: str) -> None:
    """Nor those that should have been escaped."""
    assert "unter2" not in str(effective(configured(redis={"url": url}))["redis.url"])


@pytest.mark.parametrize(
    "url", ["redis://u:hun ter2@c", "redis://c?password=hun ter2", "redis://u:hun\nter2@c", "redis://u:hun\xa0ter2@c"]
)
def test_a_blank_in_a_url_is_refused_and_would_be_hidden(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of Python's URL reader drops line ends and tabs: another password than the one that was meant."""
    monkeypatch.setenv("EARLYBIRD_REDIS__URL", url)
    with pytest.raises(SettingsError, match=r"redis\.url: no blanks .* %20") as caught:
        load()
    assert "ter2" not in str(caught.value)
    assert "ter2" not in str(effective(Settings.model_construct(redis=Redis.model_construct(url=url)))["redis.url"])


def test_an_address_is_shown_as_far_as_it_is_one() -> None:
    """Whoever looks for a wrong host must see it."""
    shown = {
        "redis://cache:6379/0": "redis://cache:6379/0",
        "redis://cache:6379/0?db=1": f"redis://cache:6379/0?{HIDDEN}",
        "rediss://u:hunter2@[::1]:6379": f"rediss://{HIDDEN}@[::1]:6379",
    }
    assert {url: effective(configured(redis={"url": url}))["redis.url"] for url in shown} == shown
    servers = "SASL_SSL://kafka-1:9093, plaintext://kafka-2:9092"
    assert effective(configured(kafka={"bootstrap_servers": servers}))["kafka.bootstrap_servers"] == servers


def test_options_that_are_no_table_are_refused_and_not_repeated(tmp_path: Path) -> None:
    """They would have held a password as well."""
    with pytest.raises(SettingsError, match=r"kafka\.options: must be a valid dictionary") as caught:
        load(write(tmp_path, '[kafka]\noptions = "sasl.password=hunter2"'))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '[[kafka.options.sasl]]\npassword = "hunter2"',
        '[kafka.options]\nsasl = ["password", "hunter2"]',
        'redis = "cache:hunter2"',
        'kafka = "sasl.password hunter2"',
        '[kafka]\nbootstrap_servers = "user:hunter2@kafka:9092"',
    ],
)
def test_a_secret_in_the_wrong_shape_or_place_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    """A table of tables, a text for a group, an address that has no room for a password."""
    with pytest.raises(SettingsError, match=r"1 setting cannot work") as caught:
        load(write(tmp_path, text))
    assert "hunter2" not in str(caught.value)


def test_a_faulty_secret_is_not_repeated_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error may go to a log as well."""
    monkeypatch.setenv("EARLYBIRD_KAFKA__SASL_PASSWORD", "hunter2")
    with pytest.raises(SettingsError) as caught:
        load()
    assert "kafka.sasl_password: no such setting" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("TOPICS__SIGNALS", "bad topic!", "topics.signals: letters, digits"),
        ("TOPICS__CONTROL", "..", "topics.control: letters, digits"),
        ("TOPICS__RAW", '[{"name": "a/b"}]', "topics.raw.0.name: letters, digits"),
        ("KAFKA__BOOTSTRAP_SERVERS", "kafka:99999", "kafka.bootstrap_servers: host:port"),
        ("KAFKA__BOOTSTRAP_SERVERS", "a:1,,b:2", "kafka.bootstrap_servers: host:port"),
        ("KAFKA__BOOTSTRAP_SERVERS", "http://a:1", "kafka.bootstrap_servers: host:port"),
        ("TOPICS__DLQ", "x" * 250, "topics.dlq: letters, digits"),
        ("REDIS__URL", "localhost:6379", "redis.url: redis://"),
        ("REDIS__URL", "redis://cache:99999", "redis.url: redis://"),
    ],
)
def test_what_no_broker_and_no_cache_can_be_called_is_refused(
    name: str, value: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything runs."""
    monkeypatch.setenv(f"EARLYBIRD_{name}", value)
    with pytest.raises(SettingsError, match=complaint):
        load()


@pytest.mark.parametrize(
    "servers", ["kafka-1:9092,kafka-2:9092", "kafka", "[::1]:9092", "SASL_SSL://kafka:9093,plaintext://b"]
)
def test_every_way_to_name_a_broker_is_taken(servers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As librdkafka does."""
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", servers)
    assert load().kafka.bootstrap_servers == servers


def test_a_faulty_url_does_not_tell_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its scheme, too."""
    monkeypatch.setenv("EARLYBIRD_REDIS__URL", "user:hunter2@cache")
    with pytest.raises(SettingsError) as caught:
        load()
    assert "hunter2" not in str(caught.value)


def test_every_setting_says_what_it_means() -> None:
    """The table has a meaning for each; numbers carry their unit in the name or in the text."""
    assert all(field.description for _, field in fields(Settings))


def test_every_engine_setting_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that changes nothing would be a lie. Each is set to what is not its default."""
    given = {
        "model": "models/v1", "policy": "fixed:2", "runner": "resident", "device": "cuda", "dtype": "bfloat16",
        "slots": 3, "token_budget": 99, "deterministic": False, "tiers": ((4, 128, 1), (16, 512, 2)), "compile": True,
    }  # fmt: skip
    for name, value in given.items():
        variable = name.upper() if name in Settings.model_fields else f"ENGINE__{name.upper()}"
        monkeypatch.setenv(f"EARLYBIRD_{variable}", value if isinstance(value, str) else json.dumps(value))
    # What comes back has the configuration that was asked for: no model, no GPU.
    monkeypatch.setattr(LoadedEngine, "load", lambda config: SimpleNamespace(config=config))
    reached = dataclasses.asdict(service.load_engine(load()).config)
    assert reached == given | {"max_tokens": None}, "max_tokens is no setting"
    default = dataclasses.asdict(EngineConfig())
    assert [name for name in given if given[name] == default[name]] == []
    assert set(Engine.model_fields) - set(given) == {"threads", "consumer_processes"}, "which are the stage's"


def test_what_a_missing_gpu_leaves_unused_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One file serves a laptop and a GPU host: there it is used, here it is a warning."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("EARLYBIRD_ENGINE__TIERS", "[[4, 128, 1]]")
    monkeypatch.setenv("EARLYBIRD_ENGINE__COMPILE", "true")
    with capture_logs() as logs:
        service.load_engine(load())
    told = {"settings": ["engine.tiers", "engine.compile"], "runner": "packed", "device": "cpu"}
    assert logs == [{"event": "settings.unused", "log_level": "warning", **told}]
    monkeypatch.setenv("EARLYBIRD_ENGINE__RUNNER", "resident")
    with capture_logs() as logs:
        service.load_engine(load())
    assert [entry["settings"] for entry in logs] == [["engine.compile"]]


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("ENGINE__RUNNER", "packed", "tiers: only a resident runner has them"),
        ("REDIS__URL", "redis://h:6379/0?socket_timeout=abc", "Redis URL: options .*socket_timeout .redis.budget_ms"),
        ("REDIS__URL", "redis://h:6379/0?socket_timeot=1", "Redis URL: options .*socket_timeot; allowed"),
        ("REDIS__URL", "redis://h:6379/0?cache_config=1", "Redis URL: options .*cache_config"),
        ("KAFKA__OPTIONS__ACKS", "1", "acks: "),
        ("KAFKA__OPTIONS__SASL_MECHANSIM", "PLAIN", r'No such configuration property: "sasl\.mechansim"'),
        ("KAFKA__OPTIONS__SOCKET_TIMEOUT_MS", "soon", r"kafka\.options: .*socket\.timeout\.ms"),
        ("KAFKA__OPTIONS__MAX_POLL_INTERVAL_MS", "10", r"must be >= `session\.timeout\.ms`"),
        ("KAFKA__OPTIONS__LINGER_MS", "long", r"linger\.ms"),
        ("KAFKA__OPTIONS__REQUEST_REQUIRED_ACKS", "1", r"request\.required\.acks: an outcome counts"),
        ("POLICY", "foo", r"exit policy: .*was 'foo' \(EARLYBIRD_POLICY\)"),
        ("POLICY", "cwb:delta=0.3,windw=2", r"no parameter 'windw'; did you mean window\? \(EARLYBIRD_POLICY\)"),
        ("POLICY", "fixed:99", "exit policy 'fixed:99': the model has"),
        ("MODEL", "/nope", r"model: a folder required, was /nope \(EARLYBIRD_MODEL\)"),
        ("HTTP__HOST", "203.0.113.7", "http: cannot listen on 203.0.113.7"),
        ("DELIVERY", "exactly_once", "instance: required with delivery exactly_once: a name of this worker"),
        (
            "TOPICS__SIGNALS_FORMAT",
            "avro",
            r"registry\.url: required by topics\.signals_format: avro",
        ),
        ("TOPICS__RAW", '[{"name": "n", "format": "schema-registry"}]', r"registry\.url: required by topics\.raw, n: "),
        ("KAFKA__OPTIONS__SCHEMA_REGISTRY_URL", "registry", r"kafka\.options\.schema\.registry\.\*: "),
    ],
)
@pytest.mark.parametrize("command", [["config", "check"], ["run"]], ids=["check", "run"])
def test_what_a_start_would_refuse_is_found_by_the_check(
    command: list[str],
    variable: str,
    value: str,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By `config check` and by `run`, in the same words; no server is asked."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # `run` would keep Ctrl-C to itself
    monkeypatch.setenv("EARLYBIRD_ENGINE__TIERS", "[[4, 128, 1]]")
    monkeypatch.setenv(f"EARLYBIRD_{variable}", value)
    assert cli.main(command) == 2
    assert re.search(complaint, capsys.readouterr().err)


def test_a_password_file_that_is_missing_is_one_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not one of each client that would need the password."""
    for name, value in {
        "SASL_PASSWORD_FILE": "/nope", "SASL_MECHANISM": "PLAIN", "SASL_USERNAME": "a",
        "SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"EARLYBIRD_KAFKA__OPTIONS__{name}", value)
    assert cli.main(["config", "check"]) == 2
    reason = "EARLYBIRD_KAFKA__OPTIONS__SASL_PASSWORD_FILE: cannot read /nope: No such file or directory"
    assert capsys.readouterr().err == f"earlybird: 1 setting cannot work:\n  {reason}\n"


def test_the_check_says_everything_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt name hides no other fault, nor does a file that is missing: one answer, one correction."""
    wrong = {
        "POLCY": "full",
        "POLICY": "foo",
        "MODEL": "/nope",
        "GRUOP": "x",
        "REDIS__TTL_S": "-1",
        "REDIS__URL_FILE": "/nowhere/url",
        "TOPICS__RAW": "news.raw",
        "KAFKA__BOOTSTRAP_SERVERS": "kafka:99999",
        "KAFKA__OPTIONS__SECURITY_PROTOCOL": "SSL",
        "KAFKA__OPTIONS__SSL_CA_LOCATION": "/nowhere/ca.pem",
        "KAFKA__OPTIONS__SASL_MECHANSIM": "PLAIN",
        "KAFKA__OPTIONS__LINGER_MS": "long",
        "KAFKA__OPTIONS__ACKS": "1",
        "ENGINE__DEVICE": "cpu",
        "LIMITS__MAX_IN_FLIGHT": "many",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(f"EARLYBIRD_{name}", value)
    broken = write(tmp_path, "group = ")
    assert cli.main(["config", "check", "--config", str(broken)]) == 2
    said = capsys.readouterr().err
    expected = [
        "EARLYBIRD_POLCY", "EARLYBIRD_GRUOP", "'foo'", "/nope", "redis.ttl_s", "EARLYBIRD_REDIS__URL_FILE", "topics",
        "kafka.bootstrap_servers", "ssl.ca.location", "sasl.mechansim", "linger.ms", "acks: ", "limits.max_in_flight",
        str(broken),
    ]  # fmt: skip
    assert [part for part in expected if part not in said] == []
    assert f"{len(expected)} settings cannot work" in said


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("COMMIT_MAP", "false", "commit_map: required with delivery exactly_once, was off"),
        ("KAFKA__OPTIONS__TRANSACTION_TIMEOUT_MS", "soon", r"transaction\.timeout\.ms"),
        ("KAFKA__OPTIONS__TRANSACTIONAL_ID", "one", r"transactional\.id: it is made of the group"),
    ],
)
def test_exactly_once_has_needs_of_its_own(
    variable: str, value: str, complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found by the check; a worker is named by its instance, or by its static membership."""
    monkeypatch.setenv("EARLYBIRD_DELIVERY", "exactly_once")
    monkeypatch.setenv("EARLYBIRD_KAFKA__OPTIONS__GROUP_INSTANCE_ID", "static")
    assert transactional_id(load()) == "earlybird-static"
    monkeypatch.setenv("EARLYBIRD_INSTANCE", "worker-1")
    assert transactional_id(load()) == "earlybird-worker-1"
    monkeypatch.setenv(f"EARLYBIRD_{variable}", value)
    assert cli.main(["config", "check"]) == 2
    assert re.search(complaint, capsys.readouterr().err)


def test_a_port_in_use_is_noted_and_no_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings are checked beside the worker that runs with them."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("EARLYBIRD_HTTP__PORT", str(port))
        assert cli.main(["config", "check"]) == 0
    assert f"127.0.0.1:{port} is in use now" in capsys.readouterr().out


def test_engine_defaults_are_the_engines_own() -> None:
    """One default a setting, whichever door it comes through."""
    ours, theirs = load().engine, EngineConfig()
    shared = ("slots", "token_budget", "tiers", "compile", "dtype", "deterministic", "runner", "device")
    assert {name: getattr(ours, name) for name in shared} == {name: getattr(theirs, name) for name in shared}


def test_a_complaint_that_names_no_field_ends_the_reading() -> None:
    """Whatever a later version of the library says: settings are tried again without what it names."""
    variables = {"earlybird_topics__raw": "[", "earlybird_topics": "{", "earlybird_group": "a"}
    left = without_unreadable(variables, 'error parsing value for field "topics"', "EARLYBIRD_")
    assert left == {"earlybird_group": "a"}
    assert without_unreadable(variables, "something went wrong", "EARLYBIRD_") == {}


@pytest.mark.parametrize(
    "setting",
    ["timing.drain_timeout_s = inf", "limits.max_age_s = inf", "redis.ttl_s = 99999999999999999",
     "timing.poll_timeout_ms = 999999999999", "engine.threads = 100000", 'group = " "', 'group = "a\\u0000"'],
)  # fmt: skip
def test_what_no_worker_could_start_with_is_refused(tmp_path: Path, setting: str) -> None:
    """Infinity overflows, a group of blanks aborts the process inside librdkafka, and no client waits that long."""
    path = tmp_path / "settings.toml"
    path.write_text(setting)
    with pytest.raises(SettingsError, match=setting.partition(" ")[0]):
        load(path)


@pytest.mark.parametrize("group", ["", " ", "\t", "a\n", "g" * 250])
def test_a_strategys_group_is_refused_at_the_call(group: str) -> None:
    """The first three would end the strategy's process with an abort."""
    with pytest.raises(ValueError, match="1 to 249"):
        Signals.live("localhost:1", group=group)


@pytest.mark.parametrize("host", ["*", "ip6-localhost", "nope.invalid", "127.0.0.1"])
def test_the_check_of_the_http_address_says_what_the_server_does(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for what the resolver takes and the server's socket does not."""
    monkeypatch.setenv("EARLYBIRD_HTTP__HOST", host)
    monkeypatch.setenv("EARLYBIRD_HTTP__PORT", "0")
    found = list[bool | None]()
    for start in (
        lambda: check(load(), model=False),
        lambda: HealthServer(host, 0, loop_age_s=float, readiness=Readiness, metrics=lambda _: ("", b"")).close(),
    ):
        try:
            start()
            found.append(None)
        except SettingsError as error:
            found.append("cannot listen" in str(error))
    assert found[0] == found[1]
