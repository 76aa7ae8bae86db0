"""Redis connection with a bounded wait per call, and explanations of its errors."""

import re
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

CONNECT_S = 1.0  # on a thread of its own, name resolution and TLS handshake included

ALLOWED = ("db", "username", "password", "client_name", "socket_keepalive", "ssl_")
"""Options that a URL may have; ssl_ stands for all names with this prefix."""

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
"""Rejected options of a URL, which would break what the settings promise, with the reason for each."""

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
"""Hint per error code, the first word of a server's error."""

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
"""Error code per exception of the client, whose text lacks the code."""

_WRAPPED = re.compile(r"^@user_script: \d+: -?")  # before an error of a command in a script, until Redis 7


class Link:
    """One connection to Redis; not thread-safe, consumer thread only.

    Methods raise RedisError or OSError. Any failure other than an error reply closes the connection, since a late
    reply would be taken for the next one.
    """

    def __init__(self, url: str, budget_ms: int) -> None:
        """Check the URL without connecting; raises SettingsError for a bad URL or option."""
        self._budget_s = budget_ms / 1000
        self._kind, self._options = _connection_options(url, self._budget_s)
        self._connection: AbstractConnection | None = None
        self._attempt: _Attempt | None = None
        try:
            self._new()  # checks the options now, instead of ending the worker at its first claim
        except (TypeError, ValueError, AttributeError, RedisError) as error:  # AttributeError: text given for an object
            raise SettingsError(f"Redis URL: {error}") from None

    def script(self, script: "Script", keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> Any:
        """Run a script on the server and return its reply."""
        try:
            return self.command("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # the server was restarted; EVAL loads the script again
            return self.command("EVAL", script.text, len(keys), *keys, *arguments)

    def command(self, *parts: str | int | bytes) -> Any:
        """Send one command and return the server's reply."""
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
        """Close the connection; the next command opens a new one."""
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
                self._attempt = None if attempt.over else attempt  # the next call waits for a running attempt again
        return self._connection


class Script:
    """A Lua script with the SHA-1 by which servers cache it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


class _Attempt:
    """A connection attempt on its own thread.

    A resolver that hangs has no time-out that a caller could set.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._error: RedisError | OSError | None = None
        self._thread = threading.Thread(target=self._run, name="redis-connect", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        """True once the attempt succeeded or failed."""
        return not self._thread.is_alive()

    def wait(self, timeout_s: float) -> AbstractConnection:
        """Return the connection.

        Raises the error of the attempt, and TimedOut while it still runs.
        """
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
        except Exception as error:  # for example an invalid host name or unknown ciphers
            self._error = RedisError(f"{type(error).__name__}: {error}")


def explained(error: BaseException | str) -> tuple[str, str]:
    """Return the reason of a failure and a hint.

    An error inside a script is given as its text.
    """
    text = _WRAPPED.sub("", str(error)).strip()
    reason = text if isinstance(error, str) else f"{type(error).__name__}: {text}"
    code = CODES.get(type(error).__name__, text.partition(" ")[0])
    if "ACL failure in script" in text or "executing the script can't" in text:
        code = "NOPERM"
    return reason, HINTS.get(code, "every text is computed until it answers")


def _usable(connection: AbstractConnection) -> bool:
    """Return whether the connection is open and has no unread data.

    A connection that the server closed has data to read.
    """
    try:
        return not connection.can_read(0)
    except (RedisError, OSError):
        return False


def _connection_options(url: str, budget_s: float) -> tuple[type[AbstractConnection], dict[str, Any]]:
    """Return the connection class and its arguments; raises SettingsError."""
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
