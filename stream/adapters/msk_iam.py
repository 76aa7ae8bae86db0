"""Tokens for Amazon MSK with IAM, for the option oauth_cb; needs the extra `msk`.

AWS credentials are found as in AWS's own libraries: environment, profile or role.
"""

from earlybird.stream.errors import SettingsError
from earlybird.stream.extras import install_hint


def token(config: str) -> tuple[str, float]:
    """Return a signed token and its expiry in epoch seconds; `config` is `region=NAME`.

    Raises SettingsError without a region or without the extra.
    """
    key, _, region = config.strip().partition("=")
    if key != "region" or not region:
        raise SettingsError(f"sasl.oauthbearer.config: region=NAME required, was {config!r}")
    try:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
    except ModuleNotFoundError:
        raise SettingsError(f"oauth_cb: {install_hint('msk')}") from None
    signed, expires_ms = MSKAuthTokenProvider.generate_auth_token(region)
    return signed, expires_ms / 1000
