"""Settings of live sources."""

from typing import Annotated

from pydantic import Field

from earlybird.stream.config.types import Group

Secret = Annotated[str, Field(min_length=1, pattern=r"^[!-~]+$")] | None


class Pull(Group):
    """Live sources of `earlybird pull`."""

    alpaca_key_id: Secret = Field(default=None, repr=False, description="key id of Alpaca's market data")
    alpaca_secret_key: Secret = Field(default=None, repr=False, description="its secret key")
    finnhub_token: Secret = Field(default=None, repr=False, description="token of Finnhub")
    tiingo_token: Secret = Field(default=None, repr=False, description="token of Tiingo")
    x_bearer_token: Secret = Field(default=None, repr=False, description="bearer token of X's API")
    x_backfill: bool = Field(
        default=False, description="ask X for the up to 5 minutes that a gap missed; not every level of access has it"
    )
    user_agent: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[ -~]+$")] = Field(
        default="earlybird", description="who asks; the SEC wants a name and an e-mail address"
    )
    poll_interval_s: Annotated[float, Field(ge=1, le=86_400)] = Field(
        default=30.0, description="time between two requests to a feed that is polled, in seconds"
    )
