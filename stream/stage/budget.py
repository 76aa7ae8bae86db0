"""How much may be under way in a stage, and how often the slow things happen."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be under way, and how often the slow things happen."""

    max_in_flight: int = 1_024  # texts between delivery and acknowledgement, over all partitions
    max_span: int = 16_384  # delivered records above a partition's low-water mark: bounds its commit map
    batch: int = 500  # records a poll
    poll_timeout_ms: int = 20
    commit_interval_ms: int = 50  # a commit costs up to 1 ms, with 1,024 texts in flight
    revoke_timeout_ms: int = 500  # to finish what is in flight before a partition goes; its next owner does the rest
    acknowledge_timeout_ms: int = 2_000  # then for the broker to have what had left
    shutdown_timeout_ms: int = 30_000
    commit_map: bool = True  # commits carry what is finished above them
