# A vendor's JSON lines to news.raw. Run in this folder, with EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS set.
earlybird feed foreign_feed.jsonl --timestamps now \
  --map "item_type='news'" \
  --map "source='acme'" \
  --map source_item_id=story.id \
  --map headline=story.title \
  --map summary=story.teaser \
  --map published_us=story.released:iso \
  --map updated_us=story.edited:iso \
  --map ingested_us=received:ms \
  --map symbols='instruments[*].{symbol: ticker, relevance: weight}' \
  --map lang=story.language
