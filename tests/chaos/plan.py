"""Which faults a run makes: the short form, a few minutes with fixed seeds, and the long one."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from tests.chaos.faults import FAULTS
from tests.chaos.load import CAPACITY
from tests.chaos.setting import SESSION_MS, Delivery, Setting

QUICK = {
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": str(SESSION_MS),
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
}
"""A dead member's partitions are given away after SESSION_MS, so that a run is not spent on waiting."""
PATIENT_MS = 10_000  # the default of `session.timeout.ms`, and what deploy/kafka sets for the other protocol

SMALL_METADATA = QUICK | {"offset.metadata.max.bytes": "64"}
POLL_INTERVAL = {"KAFKA__OPTIONS__MAX_POLL_INTERVAL_MS": "6000"}  # see STALL_S
SMALL_QUEUE = {"KAFKA__OPTIONS__QUEUE_BUFFERING_MAX_MESSAGES": "50"}


@dataclass(frozen=True)
class Part:
    """Sessions and loads that share a broker, or a cluster of three."""

    settings: tuple[Setting, ...] = ()
    nodes: int = 1
    overload_minutes: float = 0.0
    overload_rate: float = 10.0 * CAPACITY  # records a second
    bursts: tuple[int, ...] = ()
    load_options: Mapping[str, str] = field(default_factory=dict)  # settings of the workers under a load
    deliveries: tuple[Delivery, ...] = ("at_least_once", "exactly_once")
    broker: dict[str, str] = field(default_factory=lambda: dict(QUICK))


KILLED = ["worker killed", "worker killed, again while joining", "all workers killed"]
GROUP = ["worker terminated", "worker paused, then resumed", "worker joined and left"]
BROKER = ["broker killed", "broker paused", "transactions of others"]
REDIS = ["Redis killed", "Redis slow", "Redis full", "Redis with garbage"]


def deadly(runs: int) -> Setting:
    """After a death, as many records as may have been in flight are read one at a time: a small window here."""
    options = {"LIMITS__MAX_IN_FLIGHT": "64"}
    return Setting("deadly records", runs * ["deadly record"], workers=2, rate=20, step_ms=2, options=options)


def short() -> Iterator[Part]:
    """Each kind once, in some minutes."""
    yield Part((
        Setting("classic", [*KILLED, *GROUP, "engine raised", *BROKER, "Redis slow", "Redis with garbage"], redis=True),
        Setting("consumer protocol", ["worker killed", "worker paused, then resumed", "partitions added"], "consumer"),
        Setting("poll interval", ["max.poll.interval exceeded"], options=POLL_INTERVAL),
    ), deliveries=("at_least_once",))  # fmt: skip
    yield Part((
        Setting("classic", [*KILLED, *GROUP[:2], "broker killed", "transactions of others"]),
        Setting("consumer protocol", ["worker killed", "worker joined and left"], "consumer"),
    ), deliveries=("exactly_once",))  # fmt: skip
    yield Part((Setting("three nodes", ["leader of three killed"], workers=2),), 3, deliveries=("exactly_once",))
    yield Part(overload_minutes=0.25, deliveries=("at_least_once",))


def long() -> Iterator[Part]:
    """Over 200 kills per delivery, and every other kind again and again."""
    kills = [*6 * ["worker killed"], *2 * KILLED[1:]]
    others = [*GROUP, "engine raised", "engine hung", *BROKER, "broker restarted"]
    yield Part((
        Setting("classic", 2 * [*kills, *others, *REDIS], redis=True),
        Setting("consumer protocol", 2 * [*kills, *others], "consumer"),
        Setting("consumer processes", 20 * ["consumer process killed"], workers=2, consumer_processes=2),
        deadly(3),
        Setting("poll interval", 3 * ["max.poll.interval exceeded"], options=POLL_INTERVAL),
        Setting("poll interval, consumer", 3 * ["max.poll.interval exceeded"], "consumer", options=POLL_INTERVAL),
        Setting("topics changed", ["partitions added", "topic recreated", "worker killed", "topic recreated"]),
        Setting("topics changed, consumer", ["partitions added", "topic recreated", "worker killed"], "consumer"),
        Setting("producer queue of 50", 5 * ["producer queue full, broker paused"], options=SMALL_QUEUE),
        Setting("kills alone", 60 * ["worker killed"], workers=2),
        Setting("kills alone, consumer", 40 * ["worker killed"], "consumer", workers=2),
        Setting("broker away", 2 * ["broker away for a minute"]),
        Setting("broker away, consumer", ["broker away for a minute"], "consumer"),
        Setting("real engine", 10 * ["worker killed"], workers=2, rate=50, real_engine=True),
    ))  # fmt: skip
    late = 12 * ["worker killed, session of 10 s"]
    yield Part((
        Setting("session of 10 s", late, workers=2, session_ms=PATIENT_MS),
        Setting("session of 10 s, consumer", late, "consumer", workers=2, session_ms=PATIENT_MS),
    ), broker=QUICK | {"group.consumer.session.timeout.ms": str(PATIENT_MS)})  # fmt: skip
    yield Part((Setting("three nodes", 8 * ["leader of three killed", "worker killed"], workers=2),), nodes=3)
    yield Part(
        (Setting("metadata of 64 bytes", 10 * ["metadata over the limit, worker killed"]),), broker=dict(SMALL_METADATA)
    )
    yield Part(overload_minutes=10, bursts=(100_000, 1_000_000))


def only(part: Part, faults: Collection[str], names: Collection[str] | None, most: int | None) -> Part:
    """The part with these faults, sessions and loads alone, and at most so many faults per session.

    A load's name is `overload` or the size of its burst; `loads` are all of them.
    """
    kept = [
        replace(each, faults=[fault for fault in each.faults if fault in faults][:most])
        for each in part.settings
        if names is None or each.name in names
    ]
    wanted = {"loads"} if names is None and len(faults) == len(FAULTS) else set(names or ())
    loads = "loads" in wanted
    return replace(
        part,
        settings=tuple(each for each in kept if each.faults),
        overload_minutes=part.overload_minutes if loads or "overload" in wanted else 0.0,
        bursts=tuple(size for size in part.bursts if loads or str(size) in wanted),
    )


def under(part: Part, options: Mapping[str, str], times: int, rate: float | None, minutes: float | None) -> Part:
    """The part with these settings of the workers besides its own, each fault so many times, and another feed."""
    return replace(
        part,
        settings=tuple(
            replace(each, options={**each.options, **options}, faults=[*each.faults] * times, rate=rate or each.rate)
            for each in part.settings
        ),
        overload_minutes=part.overload_minutes and (minutes or part.overload_minutes),
        overload_rate=rate or part.overload_rate,
        load_options=options,
    )
