"""The option oauth_cb: a function by its name, and what is said of one that is not there."""

import base64
import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from earlybird.stream.adapters import msk_iam
from earlybird.stream.adapters.credentials import resolved
from earlybird.stream.adapters.options import client_options
from earlybird.stream.adapters.options_check import kafka_faults
from earlybird.stream.config.client_options import KafkaEndpoint
from earlybird.stream.config.settings import Kafka
from earlybird.stream.errors import SettingsError

EXPIRY_S = time.time() + 86_400


def token(config: str) -> tuple[str, float]:
    """A token that says its configuration."""
    if config == "broken":
        raise OSError("the token server is away")
    return f"token of {config}", EXPIRY_S


def test_a_function_is_found_by_its_name_in_files_and_variables() -> None:
    """Variables and files write the underscore as a dot, as with each option of librdkafka."""
    kafka = Kafka.model_validate({"options": {"OAUTH_CB": f"{__name__}:token"}})
    assert kafka.options == {"oauth.cb": f"{__name__}:token"}
    options = client_options(KafkaEndpoint("localhost:1", kafka.options))
    function: Any = options["oauth_cb"]
    assert "oauth.cb" not in options and function("a scope") == ("token of a scope", EXPIRY_S)


def test_a_strategy_passes_the_function_itself() -> None:
    """Whoever writes Python needs no name for it."""
    assert resolved({"oauth_cb": token})["oauth_cb"]("x") == ("token of x", EXPIRY_S)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("token", "module:function required"),
        ("no_such_house:token", "No module named 'no_such_house'"),
        (f"{__name__}:no_such_function", "no_such_function"),
        (f"{__name__}:__doc__", "not a function"),
        (":token", "module:function required"),
    ],
)
def test_a_name_that_leads_nowhere_is_said_before_the_start(name: str, said: str) -> None:
    """With the other faults of the options."""
    with pytest.raises(SettingsError, match=said):
        resolved({"oauth.cb": name})
    assert [said in fault for fault in kafka_faults("group", "classic", {"oauth.cb": name})] == [True]


def test_what_the_function_raises_is_an_event() -> None:
    """confluent_kafka crashes on an exception; the last token serves on, and without one a void one is refused."""
    function = resolved({"oauth_cb": token})["oauth_cb"]
    with capture_logs() as logs:
        void = function("broken")
    assert logs[0]["event"] == "oauth.token_failed" and "token server is away" in logs[0]["error"]
    assert void[0] == "none" and void[1] > time.time()
    good = function("good")
    assert function("broken") == good == ("token of good", EXPIRY_S)


def test_a_token_for_amazon_names_its_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signed here, without a network."""
    pytest.importorskip("aws_msk_iam_sasl_signer", reason="NO EXTRA: pip install -e '.[msk]', without constraints.txt")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "invented")
    signed, expires_s = msk_iam.token("region=eu-west-1")
    url = base64.urlsafe_b64decode(signed + "=" * (-len(signed) % 4)).decode()
    assert "kafka.eu-west-1.amazonaws.com" in url and "kafka-cluster%3AConnect" in url and expires_s > 1_700_000_000


def test_a_missing_region_is_named() -> None:
    """The text is the option sasl.oauthbearer.config."""
    with pytest.raises(SettingsError, match="region=NAME required, was 'eu-west-1'"):
        msk_iam.token("eu-west-1")
