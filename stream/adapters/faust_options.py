"""The views' Kafka client options: librdkafka's names translated for aiokafka, the client under Faust."""

import ssl
from collections.abc import Mapping
from typing import Any

from faust import SASLCredentials, SSLCredentials

from earlybird.stream.adapters.credentials import PASSWORD_FILE
from earlybird.stream.errors import SettingsError

_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

TRANSLATED = frozenset(
    {
        "security.protocol", "sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password", "ssl.ca.location",
        "ssl.certificate.location", "ssl.key.location", "ssl.key.password", "ssl.endpoint.identification.algorithm",
        "enable.ssl.certificate.verification", PASSWORD_FILE,  # of the password, which was read
    }
)  # fmt: skip


def credentials(options: Mapping[str, str]) -> Any:
    """Return Faust's credentials for these options; None for a plain connection.

    Raises SettingsError for an option of TLS or SASL that cannot be translated: without it the connection would be
    another one than was asked for.
    """
    unknown = sorted(name for name in options if name.startswith(("ssl.", "sasl.")) and name not in TRANSLATED)
    if unknown:
        raise SettingsError(f"kafka.options: the views cannot use {', '.join(unknown)}")
    protocol = options.get("security.protocol", "plaintext").lower()
    context = _context(options) if protocol.endswith("ssl") else None
    if protocol == "plaintext":
        return None
    if protocol == "ssl":
        return SSLCredentials(context)
    mechanism = (options.get("sasl.mechanism") or options.get("sasl.mechanisms") or "").upper()
    if protocol not in ("sasl_plaintext", "sasl_ssl") or mechanism not in _MECHANISMS:
        raise SettingsError(
            f"kafka.options: the views take security.protocol plaintext, ssl, sasl_plaintext or sasl_ssl, and "
            f"sasl.mechanism {', '.join(_MECHANISMS)}; was {protocol} {mechanism}"
        )
    return SASLCredentials(
        username=options.get("sasl.username"),
        password=options.get("sasl.password"),
        mechanism=mechanism,
        ssl_context=context,
    )


def broker_urls(bootstrap_servers: str) -> list[str]:
    """Return the brokers as Faust's URLs."""
    servers = (server.strip().rpartition("://")[2] for server in bootstrap_servers.split(","))
    return [f"kafka://{server if ':' in server else f'{server}:9092'}" for server in servers]


def _context(options: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("ssl.ca.location") or None)
        if certificate := options.get("ssl.certificate.location"):
            context.load_cert_chain(certificate, options.get("ssl.key.location"), options.get("ssl.key.password"))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"kafka.options: ssl.ca.location, ssl.certificate.location: {error}") from None
    if options.get("ssl.endpoint.identification.algorithm", "https").lower() == "none":
        context.check_hostname = False
    if options.get("enable.ssl.certificate.verification", "true").lower() == "false":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
