"""Signals in a zipline pipeline: python examples/zipline_pipeline.py [ARCHIVE]"""

import sys

import pandas as pd
import sample
from sqlalchemy import create_engine
from zipline.assets import AssetDBWriter, AssetFinder
from zipline.pipeline import Pipeline
from zipline.pipeline.domain import US_EQUITIES
from zipline.pipeline.engine import SimplePipelineEngine

from earlybird import Signals
from earlybird.stream.strategies.zipline import Scores, score_loader

SYMBOLS = ["NRVX", "GRYF"]
sessions = US_EQUITIES.sessions()
sessions = sessions[sessions.slice_indexer("2026-03-02", "2026-04-10")]

# Two invented assets. In an algorithm: symbol("NVDA"), and run_algorithm(..., custom_loader={Scores.score: loader}).
database = create_engine("sqlite://")
life = {"start_date": sessions[0], "end_date": sessions[-1], "exchange": "XNYS"}
AssetDBWriter(database).write(
    equities=pd.DataFrame([{"symbol": symbol, "asset_name": symbol, **life} for symbol in SYMBOLS]),
    exchanges=pd.DataFrame([{"exchange": "XNYS", "canonical_name": "XNYS", "country_code": "US"}]),
)
finder = AssetFinder(database)
assets = {symbol: finder.lookup_symbol(symbol, None, country_code="US") for symbol in SYMBOLS}

signals = Signals.replay(sys.argv[1] if len(sys.argv) > 1 else sample.recording(), latency="250ms")
loader = score_loader(signals, sessions, assets)
engine = SimplePipelineEngine(lambda _: loader, finder, default_domain=US_EQUITIES)
shown = engine.run_pipeline(Pipeline(columns={"score": Scores.score.latest}), sessions[1], sessions[-1])
print(shown["score"].count(), "scores, the first:")
print(shown["score"].dropna().head(3).to_string())
