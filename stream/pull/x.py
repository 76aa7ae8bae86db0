"""X's posts by the filtered stream of its API v2.

The rules are those that the account has. X's SDKs decode what comes and retry by themselves. A stream that is silent
for longer than its keep-alive is dead.
"""

import math
from collections.abc import Iterator

from earlybird.stream.pull.source import Disconnected, Frame
from earlybird.stream.pull.web import Http, host, now_us

URL = "https://api.x.com/2/tweets/search/stream"

_SECRET = "pull.x_bearer_token"
_SILENCE_S = 25.0  # a keep-alive comes every 20 s
_MOST_BACKFILL = 5  # minutes that X keeps
_FIELDS = {
    "tweet.fields": "author_id,conversation_id,created_at,edit_history_tweet_ids,entities,lang,note_tweet,"
    "public_metrics,referenced_tweets",
    "expansions": "referenced_tweets.id",
}


class X:
    """Posts that match the account's rules.

    `backfill`: ask for the minutes that were missed, which some levels of access include. They come among the live
    posts, and by their times alone they are known.
    """

    name = "x"
    answering = True

    def __init__(
        self, bearer_token: str, user_agent: str, backfill: bool, url: str = URL, silence_s: float = _SILENCE_S
    ) -> None:
        self._url, self._backfill, self._silence_s, self.address = url, backfill, silence_s, host(url)
        self._http = Http({"Authorization": f"Bearer {bearer_token}", "User-Agent": user_agent})

    def frames(self, since_us: int | None) -> Iterator[Frame | None]:
        """Open the stream and yield its lines; None for a keep-alive."""
        query: dict[str, object] = dict(_FIELDS)
        if self._backfill and since_us is not None:
            minutes = math.ceil((now_us() - since_us) / 60e6)
            query["backfill_minutes"] = min(max(minutes, 1), _MOST_BACKFILL)
        with self._http.lines(self._url, query, self._silence_s, _SECRET) as lines:
            yield None
            for line in lines:
                if line.startswith(b'{"errors"'):  # the stream ends after it
                    raise Disconnected(f"{self.address}: ended by X, {_title(line)}")
                yield Frame(line, now_us()) if line.strip() else None


def _title(line: bytes) -> str:
    """Return the kind of an error without its details, which may quote a rule."""
    return "operational disconnect" if b"operational-disconnect" in line else "an error"
