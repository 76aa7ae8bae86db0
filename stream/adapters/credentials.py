"""Credentials that change while a client runs: tokens from a function, passwords from a file.

The option `oauth_cb` is `module:function`, or in the client the function itself. The function gets the option
`sasl.oauthbearer.config`, a text, and returns the token and the instant of its expiry in epoch seconds. librdkafka
calls it again when four fifths of the token's life are over.

The option `sasl.password.file` is the file that `sasl.password` was read from. When the file holds another password,
the client takes it for its next authentication; connections that stand are not touched.
"""

import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from earlybird.stream.config.client_options import TokenFunction
from earlybird.stream.errors import SettingsError
from earlybird.stream.observability.logging import get_logger

log = get_logger(__name__)

PASSWORD_FILE = "sasl.password.file"
_RETRY_S = 5.0  # life of a void token
_NAMES = ("oauth_cb", "oauth.cb")  # in settings each underscore of an option's name is a dot


def resolved(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return librdkafka's options: the token function in place of its name, no password's file.

    Raises SettingsError.
    """
    found = {name: value for name, value in options.items() if name not in (*_NAMES, PASSWORD_FILE)}
    for given in (options[name] for name in _NAMES if name in options):
        found["oauth_cb"] = _Guarded(_named(given) if isinstance(given, str) else given)
    return found


class _Guarded:
    """A token function that raises nothing.

    confluent_kafka crashes on an exception that is raised while a client is created. After a failure the last token
    serves on while it is valid, then a void one, which the broker refuses; both make librdkafka ask again soon.
    """

    def __init__(self, function: TokenFunction) -> None:
        self._function = function
        self._last: tuple[Any, ...] = ("none", 0.0)

    def __call__(self, config: str) -> tuple[Any, ...]:
        try:
            self._last = self._function(config)
        except Exception as error:
            log.error("oauth.token_failed", function=getattr(self._function, "__qualname__", "?"), error=repr(error))
            if self._last[1] < time.time() + _RETRY_S:
                return "none", time.time() + _RETRY_S
        return self._last


def _named(path: str) -> TokenFunction:
    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise SettingsError(f"oauth_cb: module:function required, was {path!r}: {error}") from None
    if not callable(found):
        raise SettingsError(f"oauth_cb: {path} is not a function")
    function: TokenFunction = found
    return function


class PasswordFile:
    """A file followed for a client. Owner: the thread that polls the client."""

    def __init__(self, options: Mapping[str, Any], client: str) -> None:
        self._path, self._user = options.get(PASSWORD_FILE), str(options.get("sasl.username", ""))
        self._known, self._client = str(options.get("sasl.password", "")), client

    def check(self, client: Any) -> None:
        """Give the client (a Consumer or Producer) the file's password if it is another one."""
        if self._path is None:
            return
        try:
            password = Path(self._path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            log.warning("password.unreadable", client=self._client, path=self._path, error=str(error))
            return
        if password != self._known:
            self._known = password
            client.set_sasl_credentials(self._user, password)
            log.info("password.changed", client=self._client, path=self._path)
