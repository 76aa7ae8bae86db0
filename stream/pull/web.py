"""HTTP and websockets of live sources: time-outs, bounds, and errors that name no secret.

An address may hold a token, so that errors name the host alone.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from earlybird.stream.errors import PullError
from earlybird.stream.pull.source import Disconnected

LARGEST_BYTES = 16 * 1024 * 1024  # of one frame or document; Alpaca's messages may pass 1 MiB
TICK_S = 1.0  # longest wait for a message before a sign that nothing came
_TIMEOUT_S = 10.0
_CLOSE_S = 2.0
_REFUSED = (401, 403)
_TOO_MANY_S = 30.0  # least wait after 429 without a word from the server


def host(url: str) -> str:
    """Return host and port of a URL, without user, path and query."""
    return urlsplit(url).netloc.rpartition("@")[2]


def now_us() -> int:
    """Return the instant at which something was received."""
    return time.time_ns() // 1000


class Http:
    """A client of documents: keeps connections, follows no redirect with our secrets.

    Not thread-safe. `headers` go with each request.
    """

    def __init__(self, headers: Mapping[str, str], *, follow: bool = False) -> None:
        timeout = httpx.Timeout(_TIMEOUT_S)
        self._client = httpx.Client(headers=dict(headers), timeout=timeout, follow_redirects=follow)

    def get(
        self, url: str, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[httpx.Response, bytes]:
        """Return the response and its content.

        Raises Disconnected when there is none, or none that fits.
        """
        try:
            with self._client.stream("GET", url, params=params, headers=headers) as response:
                content = b""
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > LARGEST_BYTES:
                        raise Disconnected(f"{host(url)}: more than {LARGEST_BYTES:,} bytes")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Disconnected(f"{host(url)}: {type(error).__name__}") from None
        return response, content

    def document(self, url: str, params: Mapping[str, Any], secret: str) -> bytes:
        """Return the content of a vendor's page.

        `secret` is the setting to name when it is refused. Raises PullError for a refusal, Disconnected for any other
        failure.
        """
        response, content = self.get(url, params)
        check(response, secret)
        return content

    @contextmanager
    def lines(self, url: str, params: Mapping[str, Any], silence_s: float, secret: str) -> Iterator[Iterator[bytes]]:
        """Open a response without end and give its lines. Raises as `document` does.

        After `silence_s` without a byte it is disconnected.
        """
        try:
            with self._client.stream(
                "GET", url, params=params, timeout=httpx.Timeout(_TIMEOUT_S, read=silence_s)
            ) as response:
                check(response, secret)
                yield _lines(response, host(url))
        except httpx.HTTPError as error:
            raise Disconnected(f"{host(url)}: {type(error).__name__}") from None

    def close(self) -> None:
        """Close the connections to the vendor; nothing is fetched any more."""
        self._client.close()


def check(response: httpx.Response, secret: str) -> None:
    """Raise PullError for a refusal, which names the setting, and Disconnected for any other failure."""
    where = host(str(response.url))
    if response.status_code in _REFUSED:
        raise PullError(f"{where}: {response.status_code}, refused: is {secret} right, and does it allow this?")
    if response.status_code != 200:
        raise Disconnected(f"{where}: {response.status_code}", retry_after_s(response))


def retry_after_s(response: httpx.Response) -> float:
    """Return for how long the server asks not to come back."""
    given = response.headers.get("Retry-After", "")
    if given.isdecimal():
        return float(min(int(given[:9]), 3_600))
    reset = response.headers.get("x-rate-limit-reset", "")
    if reset.isdecimal():
        return min(max(float(reset[:12]) - time.time(), 1.0), 3_600.0)
    return _TOO_MANY_S if response.status_code == 429 else 0.0


@contextmanager
def websocket(url: str, user_agent: str, secret: str) -> Iterator[ClientConnection]:
    """Open a websocket; pings notice a dead one.

    Raises PullError for a refusal, Disconnected for its end.
    """
    try:
        with connect(
            url, user_agent_header=user_agent, open_timeout=_TIMEOUT_S, close_timeout=_CLOSE_S, max_size=LARGEST_BYTES
        ) as socket:
            yield socket
    except InvalidStatus as error:
        status = error.response.status_code
        if status in _REFUSED:
            raise PullError(f"{host(url)}: {status}, refused: is {secret} right, and does it allow this?") from None
        raise Disconnected(f"{host(url)}: {status}", _TOO_MANY_S if status == 429 else 0.0) from None
    except ConnectionClosed as error:
        code = error.rcvd.code if error.rcvd is not None else None
        raise Disconnected(f"{host(url)}: closed" + (f" with {code}" if code else "")) from None
    except (WebSocketException, OSError) as error:  # also TimeoutError
        raise Disconnected(f"{host(url)}: {type(error).__name__}") from None


def messages(socket: ClientConnection) -> Iterator[bytes | None]:
    """Yield the messages of a websocket as bytes; None when none came for a second."""
    while True:
        try:
            message = socket.recv(timeout=TICK_S, decode=False)
        except TimeoutError:
            yield None
        else:
            yield message if isinstance(message, bytes) else message.encode()


def _lines(response: httpx.Response, where: str) -> Iterator[bytes]:
    held = b""
    for chunk in response.iter_bytes():
        *whole, held = (held + chunk).split(b"\n")
        yield from whole
        if len(held) > LARGEST_BYTES:
            raise Disconnected(f"{where}: a line of more than {LARGEST_BYTES:,} bytes")
    raise Disconnected(f"{where}: ended by the server")
