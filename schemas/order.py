"""The rule for which signal of an item stands, the same for every reader. Pure.

Signals of an item may be read in any order, twice, or again after a crash: in the end the same one stands, or none.

| Of two signals of one `item_key` | this one counts |
|---|---|
| of the same raw element, which was read twice | the result, not the retraction; of two results the one emitted first |
| a delete, and an item before it in the raw topic | the delete |
| revisions of one scale that differ | the higher; a delete's also takes back lower ones that come after it |
| the unedited original, and an edited version of the same or a later publication | the edited version |
| anything else | the later in the raw topic |

**Delete and refused version**: both are retractions. A version that could not be read (`refused`) counts like any
other; where it is the one that counts, nothing stands. So a refused edit takes its item back, and a refused old version
that comes late takes nothing back.

**Scale**: `revision_kind`. Numbers of different kinds are never compared, and `none` is no number at all. A source's
counter that looks like an epoch is a scale of its own in each unit (s, ms, us, ns). Signals written before 1.1 have no
`revision_kind`: it is inferred from their times.

**Original and edited**: an original was created and has only `published_us`; the revision of an edited version is its
`updated_us`. A feed that sends its originals again after a restart does not undo later edits.

**Raw topic**: by offset, then index (`raw` in every signal), since records of one key share a partition. When an item's
signals come from several partitions (partitions were added, or two topics hold the item), the whole partition whose
latest `ingested_us` is later counts as the later; of equals the one that holds a delete. A raw topic that was deleted
and created again counts offsets anew: read its signals apart from the earlier ones.
"""

from bisect import insort
from collections.abc import Iterable
from typing import Generic, Literal, Protocol, TypeVar

from earlybird.schemas.base import EARLIEST_US, LATEST_US
from earlybird.schemas.raw import RevisionKind
from earlybird.schemas.signal import SignalAction


class Placed(Protocol):
    """Position of a raw element, as in signal.RawPosition."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def index(self) -> int: ...


class Timed(Protocol):
    """The instants that order versions, as in signal.Times."""

    @property
    def published_us(self) -> int | None: ...
    @property
    def updated_us(self) -> int | None: ...
    @property
    def ingested_us(self) -> int: ...
    @property
    def emitted_us(self) -> int: ...


class Versioned(Protocol):
    """What the rule needs of a signal.

    A shortened copy that has it is ordered like the signal itself.
    """

    @property
    def action(self) -> SignalAction: ...
    @property
    def refused(self) -> Literal["create", "update"] | None: ...
    @property
    def revision(self) -> int: ...
    @property
    def revision_kind(self) -> RevisionKind | None: ...
    @property
    def digest(self) -> str: ...
    @property
    def raw(self) -> Placed: ...
    @property
    def ts(self) -> Timed: ...


S = TypeVar("S", bound=Versioned)

Place = tuple[int, int, int]
"""Offset, index and revision: the order of one raw partition."""

_UNITS = tuple(
    (round(EARLIEST_US * unit), round(LATEST_US * unit), name)
    for unit, name in ((1e-6, "s"), (1e-3, "ms"), (1, "us"), (1e3, "ns"))
)
_KEPT = 64  # versions of one item and partition; only late old versions need more than one


def standing(signals: Iterable[S]) -> S | None:
    """Return the signal of one item that stands; None where everything was taken back."""
    versions = Versions[S]()
    for signal in signals:
        versions.add(signal)
    return versions.standing()


def same_result(one: Versioned | None, other: Versioned | None) -> bool:
    """Return whether both are the same outcome of one raw element, perhaps published twice."""
    if one is None or other is None:
        return one is other
    return one.raw == other.raw and one.digest == other.digest


def scale_of(signal: Versioned) -> str | None:
    """Return the scale within which revisions are comparable; None for no scale."""
    kind = signal.revision_kind or _inferred(signal)
    if kind is RevisionKind.NONE:
        return None
    if kind is not RevisionKind.COUNTER:
        return kind.value
    return next((name for low, high, name in _UNITS if low <= signal.revision <= high), kind.value)


class Versions(Generic[S]):
    """The signals of one item needed to tell which stands, whatever the order.

    Not thread-safe.
    """

    __slots__ = ("_partitions",)

    def __init__(self) -> None:
        self._partitions: dict[tuple[str, int], _Partition[S]] = {}

    def add(self, signal: S) -> None:
        """Add a signal; adding one again changes nothing."""
        source = (signal.raw.topic, signal.raw.partition)
        partition = self._partitions.get(source)
        if partition is None:
            partition = self._partitions[source] = _Partition()
        partition.add(signal)

    def standing(self) -> S | None:
        """Return the signal that stands among those read so far."""
        if len(self._partitions) == 1:  # fast path for nearly every item: one partition, one version
            (only,) = self._partitions.values()
            if len(only.versions) < 2 and not only.floors:
                return _result(only.versions[0]) if only.versions else None
        ordered = sorted(
            self._partitions.items(), key=lambda item: (item[1].latest_us, item[1].cut is not None, item[0])
        )
        since = max((number for number, (_, one) in enumerate(ordered) if one.cut is not None), default=0)
        floors = [one.floors for _, one in ordered]
        alive = [
            version
            for _, one in ordered[since:]
            for version in one.versions
            if not any(version.revision < floor.get(scale_of(version), 0) for floor in floors)
        ]
        current = (one for one in reversed(alive) if not any(_supersedes(other, one) for other in alive))
        return next(map(_result, current), None)


class _Partition(Generic[S]):
    """Signals of one item from one raw partition."""

    __slots__ = ("cut", "floors", "latest_us", "versions")

    def __init__(self) -> None:
        self.latest_us = 0  # latest ingested_us
        self.cut: Place | None = None  # place of the last delete
        self.floors: dict[str | None, int] = {}  # highest revision of a delete, by scale
        self.versions: list[S] = []  # after the cut, in raw order; only those that can still stand

    def add(self, signal: S) -> None:
        self.latest_us = max(self.latest_us, signal.ts.ingested_us)
        if signal.action is SignalAction.RETRACT and not signal.refused:
            self._delete(signal)
        elif self.cut is None or _place(signal) >= self.cut:
            self._insert(signal)

    def _delete(self, signal: S) -> None:
        place, scale = _place(signal), scale_of(signal)
        if scale is not None:
            self.floors[scale] = max(signal.revision, self.floors.get(scale, 0))
        if self.cut is None or place > self.cut:
            self.cut = place
            self.versions = [version for version in self.versions if _place(version) >= place]

    def _insert(self, signal: S) -> None:
        if not self.versions:
            self.versions.append(signal)
            return
        place = _place(signal)
        for number, version in enumerate(self.versions):
            if _place(version) == place:
                self.versions[number] = min(version, signal, key=_emission)
                return
        if any(_covers(version, signal) for version in self.versions):
            return
        self.versions = [version for version in self.versions if not _covers(signal, version)]
        insort(self.versions, signal, key=_place)
        if len(self.versions) > _KEPT:
            del self.versions[self._least()]

    def _least(self) -> int:
        """Return the index of the first version that another one replaces."""
        replaced = (
            number
            for number, version in enumerate(self.versions)
            if any(_supersedes(other, version) for other in self.versions)
        )
        return next(replaced, 0)


def _result(signal: S) -> S | None:
    return None if signal.refused else signal


def _supersedes(one: Versioned, other: Versioned) -> bool:
    """Return whether the revisions alone make `one` replace `other`."""
    scale, other_scale = scale_of(one), scale_of(other)
    if scale is not None and scale == other_scale:
        return one.revision > other.revision
    return scale == RevisionKind.UPDATED and _original(other) and _published_us(one) >= other.revision


def _covers(later: Versioned, earlier: Versioned) -> bool:
    """Return whether `later` makes `earlier` irrelevant, whatever else is read.

    An irrelevant version can neither stand nor replace another.
    """
    scale = scale_of(later)
    return (
        _place(later) > _place(earlier)
        and scale == scale_of(earlier)
        and (scale is None or later.revision >= earlier.revision)
        and (scale != RevisionKind.UPDATED or _published_us(later) >= _published_us(earlier))
        and (_original(earlier) or not _original(later))
    )


def _original(signal: Versioned) -> bool:
    created = signal.action is SignalAction.NEW or signal.refused == "create"
    return created and scale_of(signal) == RevisionKind.PUBLISHED


def _published_us(signal: Versioned) -> int:
    return signal.ts.published_us or 0


def _place(signal: Versioned) -> Place:
    return signal.raw.offset, signal.raw.index, signal.revision


def _emission(signal: Versioned) -> tuple[bool, int, str]:
    return signal.refused is not None, signal.ts.emitted_us, signal.digest


def _inferred(signal: Versioned) -> RevisionKind:
    """Infer the revision's kind of a signal without `revision_kind`."""
    revision, times = signal.revision, signal.ts
    unedited = times.updated_us is None
    if unedited and revision == times.published_us:
        return RevisionKind.PUBLISHED
    retracted = signal.action is SignalAction.RETRACT
    if unedited and times.published_us is None and revision == (times.ingested_us if retracted else 0):
        return RevisionKind.NONE
    return RevisionKind.UPDATED if EARLIEST_US <= revision <= LATEST_US else RevisionKind.COUNTER
