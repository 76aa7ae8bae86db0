"""Expected outcomes of the demo's records, and the check against them.

Outcomes and results are expected, never their timing: a copy may be a duplicate or computed again, but its
result equals that of its original bit for bit.
"""

from collections.abc import Collection, Mapping, Sequence

from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import Probabilities, Signal
from earlybird.stream.demo.items import DemoRecord
from earlybird.stream.monitor.tape import Kind, Row, headline

Outcome = Signal | Rejection

_NAMES = {Kind.SIGNAL: "result", Kind.DUPLICATE: "result", Kind.CORRECTION: "correct", Kind.RETRACTION: "retract"}


def expected(record: DemoRecord) -> int:
    """Return the record's number of outcomes; an update that becomes a dead letter has two."""
    return 2 if record.odd is not None and record.odd.also_retracts else 1


def broken_promises(
    records: Sequence[DemoRecord], outcomes: Sequence[Sequence[Outcome]], others: Collection[str] = ()
) -> list[str]:
    """Describe each record with unexpected outcomes and each text with two results.

    One sentence for each of them. `others`: items that were not of the feed, which may have had a text first.
    """
    originals = {_key(record): _original(record) for record in records if _is_result(record)}
    found, results = list[str](), dict[str, set[Probabilities]]()
    for record, seen in zip(records, outcomes, strict=True):
        name = record.odd.name if record.odd else headline(record.value)
        label_matters = record.odd is not None and record.odd.label is not None
        wanted, told = _wanted(record), sorted(_told(outcome, label_matters, originals, others) for outcome in seen)
        if told != wanted:
            found.append(f"{name}: {', '.join(wanted)} expected, was {', '.join(told)}")
        for signal in seen:
            if isinstance(signal, Signal) and signal.probs is not None and _is_result(record):
                results.setdefault(_original(record), set()).add(signal.probs)
    return found + [
        f"{original}: one result expected for all copies, was {len(said)}"
        for original, said in results.items()
        if len(said) > 1
    ]


def _is_result(record: DemoRecord) -> bool:
    return record.odd is None or record.odd.outcome in ("signal", "duplicate")


def _key(record: DemoRecord) -> str:
    return (record.key or b"").decode()


def _original(record: DemoRecord) -> str:
    """Return the item_key of the first item with this text."""
    return (record.odd and record.odd.of) or _key(record)


def _told(outcome: Outcome, label_matters: bool, originals: Mapping[str, str], others: Collection[str]) -> str:
    if isinstance(outcome, Rejection):
        return f"dead letter ({outcome.reason.value})"
    name = _NAMES[Row.of_signal(outcome, at_us=0, age_us=0).kind]
    if name == "result" and label_matters:
        name = f"{outcome.label} result"
    first = outcome.novelty and outcome.novelty.dup_of
    # The original may come from an earlier run of the feed.
    if first and first not in others and originals.get(first, first) != originals.get(outcome.item_key):
        name += f" of {first}"
    return f"{name}, truncated" if outcome.input is not None and outcome.input.truncated else name


def _wanted(record: DemoRecord) -> list[str]:
    odd = record.odd
    if odd is None:
        return ["result"]
    wanted = f"{odd.label} result" if odd.label is not None else "result"
    if odd.reason is not None:
        wanted = f"dead letter ({odd.reason.value})"
    elif not _is_result(record):
        wanted = odd.outcome
    wanted += ", truncated" if odd.truncated else ""
    return sorted([wanted, "retract"] if odd.also_retracts else [wanted])
