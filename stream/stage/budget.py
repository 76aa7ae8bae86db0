"""Limits on work in flight, and the intervals of periodic work."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits on work in flight, and the intervals of periodic work."""

    max_in_flight: int = 1_024  # texts between delivery and acknowledgement, over all partitions
    max_span: int = 16_384  # delivered records per partition from its first unfinished one on: bounds its commit map
    batch: int = 500  # records per poll
    poll_timeout_ms: int = 20
    transaction_interval_ms: int = 100  # exactly-once: at least from one commit to the next
    commit_interval_ms: int = 50  # a commit costs up to 1 ms, with 1,024 texts in flight
    revoke_timeout_ms: int = 500  # to finish texts in flight when a partition is revoked; its next owner does the rest
    acknowledge_timeout_ms: int = 2_000  # after that, to wait for outstanding acknowledgements
    shutdown_timeout_ms: int = 30_000
    commit_map: bool = True  # commits carry the finished offsets above them
