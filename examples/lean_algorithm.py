"""Signals in Lean (QuantConnect): a custom-data class, and an algorithm that trades on it.

Write the files first, into Lean's data folder:

    write_lean(Signals.replay("archive/", latency="250ms"), "data/custom/earlybird")
"""

import json
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from AlgorithmImports import (
    FileFormat,
    Globals,
    PythonData,
    QCAlgorithm,
    Resolution,
    Slice,
    SubscriptionDataConfig,
    SubscriptionDataSource,
    SubscriptionTransportMedium,
    TimeZones,
)


class EarlybirdSignal(PythonData):
    """A line of a file that write_lean wrote. Lean hands it out at its end time: when it could be known."""

    def get_source(self, config: SubscriptionDataConfig, date: datetime, is_live_mode: bool) -> SubscriptionDataSource:
        path = Path(Globals.data_folder, "custom", "earlybird", quote(config.symbol.value, safe="") + ".json")
        return SubscriptionDataSource(str(path), SubscriptionTransportMedium.LOCAL_FILE, FileFormat.CSV)  # line by line

    def reader(
        self, config: SubscriptionDataConfig, line: str, date: datetime, is_live_mode: bool
    ) -> "EarlybirdSignal | None":
        if not line.strip():
            return None
        fields = json.loads(line)
        signal = EarlybirdSignal()
        signal.symbol = config.symbol
        signal.time = signal.end_time = datetime.fromisoformat(fields["end_time"])  # UTC, see add_data below
        signal.value = fields["score"]
        for name in ("action", "label", "score", "confidence", "item_key", "headline"):
            signal[name] = fields[name]
        return signal


class Follower(QCAlgorithm):
    """Long after good news, out after bad or retracted news."""

    def initialize(self) -> None:
        self.set_start_date(2026, 3, 2)
        self.set_end_date(2026, 4, 10)
        self.stock = self.add_equity("NRVX", Resolution.MINUTE).symbol
        self.news = self.add_data(EarlybirdSignal, "NRVX", Resolution.TICK, TimeZones.UTC).symbol

    def on_data(self, data: Slice) -> None:
        if not data.contains_key(self.news):
            return
        signal = data[self.news]
        for each in signal if isinstance(signal, list) else [signal]:  # ticks of one instant come as a list
            self.set_holdings(self.stock, 1.0 if each["score"] > 0.3 else 0.0, tag=each["item_key"])
