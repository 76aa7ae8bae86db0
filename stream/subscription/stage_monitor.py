"""Stage health from heartbeats: distinguishes no news, lag and failure.

Signals alone cannot tell a quiet market from a stage that lags or is dead.
"""

from dataclasses import dataclass
from enum import StrEnum

from earlybird.schemas.control import Heartbeat


class Condition(StrEnum):
    """The condition of the stage, as far as known."""

    UNKNOWN = "unknown"  # no heartbeat was heard yet, or there is no topic to hear them on
    ALIVE = "alive"  # it beats, and no text waits long
    QUIET = "quiet"  # alive, but no signal for long: there is no news
    LAGGING = "lagging"  # it beats, but a text has waited for long
    SHEDDING = "shedding"  # it beats, but sheds texts that were too old when it read them
    STOPPED = "stopped"  # every worker announced its end
    DEAD = "dead"  # no heartbeat: it hangs, it died, or it cannot be reached
    COMPLETE = "complete"  # it was a replay, and this was its last signal


@dataclass(frozen=True, slots=True)
class HealthChange:
    """A change of condition, good or bad.

    Instants are this machine's, in epoch microseconds.
    """

    condition: Condition
    before: Condition
    at_us: int
    quiet_us: int  # since the last signal (or the start)
    since_heartbeat_us: int  # since the last heartbeat (or the start)
    lag_us: int  # age of the oldest text that a worker has not finished
    shed: int  # texts shed since the watch began
    workers: tuple[str, ...]  # those heard last

    def __str__(self) -> str:
        return (
            f"the stage is {self.condition} (was {self.before}): no signal for {self.quiet_us / 1e6:.1f} s, "
            f"no heartbeat for {self.since_heartbeat_us / 1e6:.1f} s, "
            f"oldest unfinished text {self.lag_us / 1e6:.1f} s old, {self.shed} texts left out"
        )


@dataclass(frozen=True, slots=True)
class HealthTimeouts:
    """Time-outs of the watch in microseconds; None: never.

    Workers beat once per second.
    """

    dead_after_us: int = 5_000_000
    lag_after_us: int = 5_000_000  # also how long after the last shed text the stage counts as shedding
    quiet_after_us: int | None = None


class StageMonitor:
    """Tracks the condition of the stage.

    A worker that falls silent while others beat is not a dead stage: its partitions move. Not thread-safe.
    """

    def __init__(self, timeouts: HealthTimeouts, now_us: int) -> None:
        self.condition = Condition.UNKNOWN
        self._timeouts = timeouts
        self._last_signal_us = self._last_heartbeat_us = now_us
        self._complete = False
        self._shed, self._last_shed_us = 0, now_us
        self._heartbeats: dict[str, tuple[Heartbeat, int]] = {}  # by worker, with the instant it was heard

    def note_signal(self, now_us: int) -> None:
        self._last_signal_us = now_us

    def note_heartbeat(self, heartbeat: Heartbeat, now_us: int) -> None:
        self._last_heartbeat_us = now_us
        known = self._heartbeats.get(heartbeat.worker)
        if (shed := _shed_since(heartbeat, known and known[0])) > 0:
            self._shed += shed
            self._last_shed_us = now_us
        self._heartbeats[heartbeat.worker] = (heartbeat, now_us)

    def note_complete(self) -> None:
        """Note that the replay is over, after which nothing can go wrong."""
        self._complete = True

    def judge(self, now_us: int) -> HealthChange | None:
        """Return the change of condition since the last call, if any.

        The first step from unknown to alive is no change.
        """
        fresh = [
            heartbeat
            for heartbeat, at_us in self._heartbeats.values()
            if now_us - at_us <= self._timeouts.dead_after_us
        ]
        if fresh:  # workers that others have replaced need no memory
            self._heartbeats = {heartbeat.worker: self._heartbeats[heartbeat.worker] for heartbeat in fresh}
        lag_us = max((_waited_us(heartbeat, now_us) for heartbeat in fresh), default=0)
        before, self.condition = self.condition, self._condition(fresh, lag_us, now_us)
        if self.condition is before or (before, self.condition) == (Condition.UNKNOWN, Condition.ALIVE):
            return None
        return HealthChange(
            self.condition,
            before,
            now_us,
            now_us - self._last_signal_us,
            now_us - self._last_heartbeat_us,
            lag_us,
            self._shed,
            tuple(sorted(self._heartbeats)),
        )

    def _condition(self, fresh: list[Heartbeat], lag_us: int, now_us: int) -> Condition:
        if self._complete:
            return Condition.COMPLETE
        if all(heartbeat.state == "stopped" for heartbeat in fresh):
            last = max(self._heartbeats.values(), key=lambda heard: heard[1], default=None)
            if last is not None and last[0].state == "stopped":
                return Condition.STOPPED
            return Condition.DEAD if now_us - self._last_heartbeat_us > self._timeouts.dead_after_us else self.condition
        if self._shed and now_us - self._last_shed_us <= self._timeouts.lag_after_us:
            return Condition.SHEDDING
        if lag_us > self._timeouts.lag_after_us:
            return Condition.LAGGING
        quiet_after_us = self._timeouts.quiet_after_us
        if quiet_after_us is not None and now_us - self._last_signal_us > quiet_after_us:
            return Condition.QUIET
        return Condition.ALIVE


def _waited_us(heartbeat: Heartbeat, now_us: int) -> int:
    oldest = [partition.oldest_unfinished_ingested_us for partition in heartbeat.partitions]
    return max((now_us - instant for instant in oldest if instant is not None), default=0)


def _shed_since(heartbeat: Heartbeat, before: Heartbeat | None) -> int:
    """Return the texts that this worker has shed since its last heartbeat.

    The count starts with the worker, so one that was restarted under its name, or started for the first time, starts at
    0. What a worker shed before this watch began is not counted.
    """
    if before is not None and heartbeat.sequence >= before.sequence:
        return heartbeat.shed - before.shed
    return heartbeat.shed if before is not None or heartbeat.sequence <= 1 else 0
