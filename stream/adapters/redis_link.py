"""One connection to Redis that holds its caller for a budget at most, and what its errors mean."""

import threading
from collections.abc import Sequence
from hashlib import sha1
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis import RedisError
from redis.connection import AbstractConnection, Connection, parse_url
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as TimedOut

from earlybird.stream.errors import SettingsError

CONNECT_S = 1.0  # on a thread of its own: names are resolved and TLS is agreed on meanwhile

ALLOWED = ("db", "username", "password", "client_name", "socket_keepalive", "ssl_")
"""Options that a URL may have; ssl_ stands for all that begin so."""

OWNED = {
    "socket_timeout": "redis.budget_ms bounds every wait",
    "socket_connect_timeout": "connecting never holds a text up",
    "timeout": "redis.budget_ms bounds every wait",
    "retry": "a call that failed is not repeated, its texts are computed",
    "retry_on_timeout": "a call that failed is not repeated, its texts are computed",
    "retry_on_error": "a call that failed is not repeated, its texts are computed",
    "health_check_interval": "every call is a check",
    "max_connections": "there is one connection",
    "protocol": "it is 2",
    "decode_responses": "entries are bytes",
}
"""Options of a URL that would break what the settings promise, and why they are not needed."""

HINTS = {
    "OOM": "later duplicates are computed; give Redis memory or a maxmemory-policy that evicts",
    "READONLY": "this server is a replica that nobody may write to; redis.url must name its primary",
    "NOPERM": "its ACL needs +evalsha +eval +getrange +set +del +pttl on ~{earlybird}:*",
    "NOAUTH": "redis.url needs a password: redis://[user:]password@host:port/db",
    "WRONGPASS": "user or password in redis.url are wrong",
    "LOADING": "Redis is loading its data; it is asked again each second",
    "BUSY": "somebody's script keeps Redis busy; it is asked again each second",
    "MISCONF": "Redis cannot save its data and takes no writes; its own log says why",
    "NOREPLICAS": "Redis takes no writes without its replicas (min-replicas-to-write)",
    "MASTERDOWN": "this server is a replica without its primary; redis.url must name a primary",
    "CLUSTERDOWN": "the Redis Cluster is not whole",
    "MOVED": "redis.url must name the node of a Redis Cluster that has the slot of {earlybird}; the reason names it",
}
"""By the first word of an error as servers spell it."""

CODES = {
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "NoPermissionError": "NOPERM",
    "AuthenticationError": "WRONGPASS",
    "BusyLoadingError": "LOADING",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
    "MovedError": "MOVED",
}
"""The same of the client's exceptions, which leave that word out of their text."""


class Link:
    """Not thread-safe: consumer thread only. Methods raise RedisError or OSError; what is not an answer of the server
    costs the connection, since a late answer would be taken for the next one."""

    def __init__(self, url: str, budget_ms: int) -> None:
        """Raises SettingsError on a URL that is none or has options that are not its user's; asks no server."""
        self._budget_s = budget_ms / 1000
        self._kind, self._options = _connection_options(url, self._budget_s)
        self._connection: AbstractConnection | None = None
        self._attempt: _Attempt | None = None
        try:
            self._new()  # else an option that does not fit ends the worker at its first claim
        except (TypeError, ValueError, AttributeError, RedisError) as error:  # AttributeError: text for an object
            raise SettingsError(f"Redis URL: {error}") from None

    def script(self, script: "Script", keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> Any:
        """What the server's script answers."""
        try:
            return self.command("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # a server that was started anew; EVAL leaves it there
            return self.command("EVAL", script.text, len(keys), *keys, *arguments)

    def command(self, *parts: str | int | bytes) -> Any:
        """The server's answer to one command."""
        connection = self._connected()
        try:
            connection.send_command(*parts)  # type: ignore[no-untyped-call]
            return connection.read_response()
        except ResponseError:
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection; the next command makes a new one."""
        if self._connection is not None:
            self._connection.disconnect()  # type: ignore[no-untyped-call]
            self._connection = None

    def _new(self) -> AbstractConnection:
        return self._kind(**self._options)

    def _connected(self) -> AbstractConnection:
        if self._connection is not None and not _usable(self._connection):
            self.close()
        if self._connection is None:
            attempt = self._attempt = self._attempt or _Attempt(self._new())
            try:
                self._connection = attempt.wait(self._budget_s)
            finally:
                self._attempt = None if attempt.over else attempt  # the next call waits for it again
        return self._connection


class Script:
    """A script and the name that servers know it by."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


class _Attempt:
    """A connection that is being made, on a thread: a resolver that hangs has no time-out that a caller could set."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._error: RedisError | OSError | None = None
        self._thread = threading.Thread(target=self._run, name="redis-connect", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether it succeeded or failed."""
        return not self._thread.is_alive()

    def wait(self, timeout_s: float) -> AbstractConnection:
        """The connection. Raises what connecting raised, and TimedOut while it is not over."""
        self._thread.join(timeout_s)
        if not self.over:
            raise TimedOut(f"no connection within {timeout_s * 1000:.0f} ms; it goes on meanwhile")
        if self._error is not None:
            raise self._error
        return self._connection

    def _run(self) -> None:
        try:
            self._connection.connect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            self._error = error
        except Exception as error:  # a host that no name can be, ciphers that there are not
            self._error = RedisError(f"{type(error).__name__}: {error}")


def explained(error: BaseException | str) -> tuple[str, str]:
    """The reason of a failure, and what to do about it. Of an error in a script, its text."""
    text = str(error)
    reason = text if isinstance(error, str) else f"{type(error).__name__}: {text}"
    code = CODES.get(type(error).__name__, text.partition(" ")[0])
    if "ACL failure in script" in text or "executing the script can't" in text:
        code = "NOPERM"
    return reason, HINTS.get(code, "every text is computed until it answers")


def _usable(connection: AbstractConnection) -> bool:
    """Whether nothing is there to read before a question was asked; it is where the server has closed."""
    try:
        return not connection.can_read(0)
    except (RedisError, OSError):
        return False


def _connection_options(url: str, budget_s: float) -> tuple[type[AbstractConnection], dict[str, Any]]:
    """What makes a connection. Raises SettingsError."""
    parts = urlsplit(url)
    taken = [name for name in parse_qs(parts.query) if name not in ALLOWED and not name.startswith("ssl_")]
    if taken:
        reasons = [f"{name} ({OWNED[name]})" if name in OWNED else name for name in taken]
        raise SettingsError(
            f"Redis URL: options that cannot be passed through: {', '.join(reasons)}; allowed: {', '.join(ALLOWED)}..."
        )
    if parts.scheme != "unix" and not parts.path.strip("/").isdigit() and parts.path.strip("/"):
        raise SettingsError("Redis URL: a number required after the address, it is the database")
    try:
        options = parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise SettingsError(f"Redis URL: {error}") from None
    kind = options.pop("connection_class", Connection)
    return kind, options | {"socket_timeout": budget_s, "socket_connect_timeout": CONNECT_S, "protocol": 2}
