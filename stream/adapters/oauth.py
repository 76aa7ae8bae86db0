"""OAUTHBEARER tokens from a function that the user names.

The option `oauth_cb` is `module:function`, or in the client the function itself. The function gets the option
`sasl.oauthbearer.config`, a text, and returns the token and the instant of its expiry in epoch seconds. librdkafka
calls it again when four fifths of the token's life are over.
"""

import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import structlog

from earlybird.stream.errors import SettingsError

log = structlog.get_logger(__name__)

TokenFunction = Callable[[str], tuple[Any, ...]]
"""Function from sasl.oauthbearer.config to token and expiry in epoch seconds."""

_RETRY_S = 5.0  # life of a void token
_NAMES = ("oauth_cb", "oauth.cb")  # in settings each underscore of an option's name is a dot


def resolved(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with the token function in place of its name. Raises SettingsError."""
    found = {name: value for name, value in options.items() if name not in _NAMES}
    for given in (options[name] for name in _NAMES if name in options):
        found["oauth_cb"] = _Guarded(_named(given) if isinstance(given, str) else given)
    return found


class _Guarded:
    """The function, without its exceptions: confluent_kafka crashes on one that is raised while a client is created.

    After a failure the last token serves on while it is valid, then a void one, which the broker refuses; both make
    librdkafka ask again soon.
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
