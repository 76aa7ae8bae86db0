"""Scores inside zipline's own pipeline engine: a session shows what was known before zipline asks."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from earlybird.stream.client import Signals
from earlybird.stream.strategies.invented import invented

pytestmark = pytest.mark.filterwarnings("ignore")  # of zipline's own
pd = pytest.importorskip("pandas", reason="NO PANDAS: pip install -e '.[strategies]'")
pytest.importorskip("zipline", reason="NO ZIPLINE: pip install -e '.[strategies,zipline]'")

from sqlalchemy import create_engine  # noqa: E402
from zipline.assets import AssetDBWriter, AssetFinder  # noqa: E402
from zipline.pipeline import Pipeline  # noqa: E402
from zipline.pipeline.domain import US_EQUITIES  # noqa: E402
from zipline.pipeline.engine import SimplePipelineEngine  # noqa: E402

from earlybird.stream.strategies.zipline import CUTOFF, Scores, score_loader  # noqa: E402


def us(local: str) -> int:
    return int(datetime.fromisoformat(local).replace(tzinfo=ZoneInfo("America/New_York")).timestamp()) * 1_000_000


def test_a_session_shows_what_was_known_at_the_cutoff() -> None:
    """By zipline's own cutoff; what is said later is shown on the next session, over a holiday too."""
    sessions = US_EQUITIES.sessions()
    sessions = sessions[sessions.slice_indexer("2024-07-01", "2024-07-09")]
    opening = pd.Timestamp("2024-07-03 09:30", tz="America/New_York")
    assert US_EQUITIES.data_query_cutoff_for_sessions(pd.DatetimeIndex(["2024-07-03"]))[0] == opening - CUTOFF
    database = create_engine("sqlite://")
    life = {"start_date": sessions[0], "end_date": sessions[-1], "exchange": "XNYS"}
    AssetDBWriter(database).write(
        equities=pd.DataFrame([{"symbol": symbol, "asset_name": symbol, **life} for symbol in ("NVDA", "AMD")]),
        exchanges=pd.DataFrame([{"exchange": "XNYS", "canonical_name": "XNYS", "country_code": "US"}]),
    )
    finder = AssetFinder(database)
    assets = {symbol: finder.lookup_symbol(symbol, None, country_code="US") for symbol in ("NVDA", "AMD")}
    said = {"2024-07-03 08:44": 0.1, "2024-07-03 08:46": 0.2, "2024-07-05 12:00": 0.4}
    signals = [(invented(local, us(local), score), us(local)) for local, score in said.items()]
    loader = score_loader(Signals.replay(signals), sessions, assets)
    engine = SimplePipelineEngine(lambda _: loader, finder, default_domain=US_EQUITIES)
    shown = engine.run_pipeline(Pipeline(columns={"score": Scores.score.latest}), sessions[1], sessions[-1])["score"]
    nvda = shown.xs(assets["NVDA"], level=1).dropna()
    assert {str(day.date()): score for day, score in nvda.items()} == {
        "2024-07-03": 0.1, "2024-07-05": 0.2, "2024-07-08": 0.4,
    }  # fmt: skip
    assert shown.xs(assets["AMD"], level=1).isna().all()
