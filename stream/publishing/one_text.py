"""A raw record of one text that somebody typed."""

import re
import time
import uuid
from collections.abc import Sequence

from earlybird.schemas.raw import RawNews, RawTweet, Symbol
from earlybird.stream.ports import Outgoing

_CASHTAG = re.compile(r"(?<![\w$])\$([A-Za-z]{1,6}(?:[./-][A-Za-z]{1,2})?)(?![\w$])")


def one_text(text: str, topic: str, source: str, symbols: Sequence[str] = (), *, tweet: bool = False) -> Outgoing:
    """Return a news item or tweet with a new id, published and ingested now.

    `symbols` in any spelling; the text's cashtags ($NRVX) are added. Its language is left open, so no stage refuses it
    for that. Raises ValueError for a symbol that can name none.
    """
    text = text.encode(errors="replace").decode()  # a lone surrogate stands for bytes that were no UTF-8
    now_us, item_id = time.time_ns() // 1000, uuid.uuid4().hex[:16]
    named = [Symbol(symbol=each, origin="provider") for each in symbols]
    named += [Symbol(symbol=each, origin="cashtag") for each in _CASHTAG.findall(text)]
    common = {
        "item_key": f"{source}:{item_id}", "source": source, "source_item_id": item_id, "published_us": now_us,
        "ingested_us": now_us, "symbols": tuple({each.symbol: each for each in reversed(named)}.values())[::-1],
    }  # fmt: skip
    item = (
        RawTweet.model_validate({"item_type": "tweet", "text": text, **common})
        if tweet
        else RawNews.model_validate({"item_type": "news", "headline": text, **common})
    )
    return Outgoing(topic, item.item_key.encode(), item.model_dump_json(exclude_none=True).encode())
