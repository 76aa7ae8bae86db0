"""Probe that finds out whether a listener uses TLS or plain Kafka."""

import socket
import ssl
import struct
from contextlib import suppress
from typing import Literal

ListenerProtocol = Literal["TLS", "plain Kafka"]

ANSWER_S = 1.0

# ApiVersions request: length, version 0, correlation id 1, no client id. Brokers answer it before authentication.
_QUESTION = struct.pack(">ihhih", 10, 18, 0, 1, -1)
_CORRELATION = struct.pack(">i", 1)


def protocol_of(address: str) -> ListenerProtocol | None:
    """Return the protocol at host:port; None without a listener or a known answer."""
    host, _, port = address.rpartition(":")
    place = (host.strip("[]"), int(port))
    if _accepts_plain(place):
        return "plain Kafka"
    return "TLS" if _accepts_tls(place) else None


def _accepts_plain(address: tuple[str, int]) -> bool:
    with suppress(OSError), socket.create_connection(address, ANSWER_S) as peer:
        peer.settimeout(ANSWER_S)
        peer.sendall(_QUESTION)
        answer = peer.recv(8)  # length and correlation id
        return len(answer) == 8 and answer[4:] == _CORRELATION
    return False


def _accepts_tls(address: tuple[str, int]) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # probed, not trusted
    try:
        with socket.create_connection(address, ANSWER_S) as peer, context.wrap_socket(peer, server_hostname=address[0]):
            return True
    except ssl.SSLError as error:
        return "alert" in str(error).lower()  # a refusal in TLS, for example for lack of a client certificate
    except OSError:
        return False
