"""Search for a tiling that makes a text's bits independent of its batch neighbours.

It is found by trial, because no library guarantees one.
"""

import struct
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import NamedTuple

from earlybird.engine.device.layer import Tiles
from earlybird.engine.device.loop import Resident
from earlybird.engine.device.step import Tier
from earlybird.engine.errors import ConfigError
from earlybird.engine.numerics import digest, probes
from earlybird.engine.types import Request

KINDS = ("whole", "half", "single")  # the fastest first
ProbeOutputs = set[tuple[int, bytes]]  # (probe, its exit layer and the bits of its logits there)


class Steady(NamedTuple):
    """A tile kind that gives stable bits on this device."""

    kind: str
    tiles: Tiles
    numerics: str  # see engine.numerics


def tiles_of(kind: str, tiers: Sequence[Tier]) -> Tiles | None:
    """Return a kind's tiles for these tiers; None if an odd tier has no half.

    whole   the smallest tier is one tile; all tiles of a product go in one launch
    half    the smallest tier is two tiles, as one alone may get another kernel than several do; in one launch, too
    single  taller tiles, one launch each, so that each tile can fill the device by itself
    """
    slots, tokens, _ = tiers[0]
    if kind == "single":
        return Tiles(min(4 * tokens, tiers[-1].tokens), slots)
    if kind == "whole":
        return Tiles(tokens, slots, batched=True)
    return None if slots % 2 or tokens % 2 else Tiles(tokens // 2, slots // 2, batched=True)


def steady(loop_of: Callable[[Tiles], Resident], tiers: Sequence[Tier], kinds: Sequence[str] = KINDS) -> Steady:
    """Return the first kind with stable bits; raises ConfigError if none has."""
    failed = []
    for kind in kinds:
        if tiles := tiles_of(kind, tiers):
            loop = loop_of(tiles)
            outputs = probe_outputs(loop, tiers)
            if holds(loop, outputs):
                return Steady(kind, tiles, fingerprint(loop, outputs))
            failed.append(f"{kind} {len(outputs)}")
    raise ConfigError(
        f"deterministic: not possible on this {loop.model.where.type}; {len(_texts(loop))} probe texts got other bits "
        f"in other company, places or tiers, different answers by kind of tiles were: {', '.join(failed)}. Switch it "
        f"off: results then hold to a tolerance"
    )


def probe_outputs(loop: Resident, tiers: Sequence[Tier]) -> ProbeOutputs:
    """Return an empty loop's results for the probe texts, in every tier, in both orders."""
    outputs = ProbeOutputs()
    for tier in tiers:
        loop.only(tier)
        for backwards in (False, True):
            outputs |= _full_table(loop, tier, backwards=backwards)
    loop.only(None)
    return outputs


def holds(loop: Resident, outputs: ProbeOutputs) -> bool:
    """Return whether every probe text got the same bits each time."""
    return len(outputs) == len(_texts(loop))


def fingerprint(loop: Resident, outputs: ProbeOutputs) -> str:
    """Return 16 hex digits over the results of the probe texts."""
    return digest(loop.model.dtype, b"".join(probe.to_bytes(8) + words for probe, words in sorted(outputs)))


def _full_table(loop: Resident, tier: Tier, *, backwards: bool) -> ProbeOutputs:
    """Return the results of probes that fill every slot, then the tier's tokens.

    First, enough short probes run to fill every slot, then all of them: results of one slot say nothing about the
    others.
    """
    texts = _texts(loop)
    short = [probe for probe, ids in enumerate(texts) if len(ids) <= max(1, tier.tokens // tier.slots)]
    rounds = 1 + tier.tokens // sum(map(len, texts))
    order = [*islice(cycle(short), tier.slots), *list(range(len(texts))) * rounds]
    if backwards:
        order.reverse()
    loop.submit([Request(ticket, texts[probe]) for ticket, probe in enumerate(order)])
    outputs = ProbeOutputs()
    while loop.waiting or loop.active:
        for verdict in loop.step():
            words = struct.pack(f"<q{len(verdict.logits)}d", verdict.exit_layer, *verdict.logits)
            outputs.add((order[verdict.ticket], words))
    return outputs


def _texts(loop: Resident) -> list[tuple[int, ...]]:
    return [tuple(ids.tolist()) for ids in probes(loop.model.config.vocab_size, loop.model.longest)]
