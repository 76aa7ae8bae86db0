"""Which tiles make a text's bits its own in a resident loop: found by trying, for no library promises it."""

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
Answers = set[tuple[int, bytes]]  # (probe, its exit layer and the bits of its logits there)


class Steady(NamedTuple):
    """A kind of tiles that holds on this device."""

    kind: str
    tiles: Tiles
    numerics: str  # as engine.numerics


def tiles_of(kind: str, tiers: Sequence[Tier]) -> Tiles | None:
    """Tiles of a kind for these tiers; None where an odd tier has no half.

    whole   the smallest tier is one tile; all tiles of a product go in one launch
    half    it is two, since one alone may get another kernel than several do; in one launch, too
    single  higher tiles, a launch each, so that each can fill the device by itself
    """
    slots, tokens, _ = tiers[0]
    if kind == "single":
        return Tiles(min(4 * tokens, tiers[-1].tokens), slots)
    if kind == "whole":
        return Tiles(tokens, slots, batched=True)
    return None if slots % 2 or tokens % 2 else Tiles(tokens // 2, slots // 2, batched=True)


def steady(loop_of: Callable[[Tiles], Resident], tiers: Sequence[Tier]) -> Steady:
    """The first kind that holds. Raises ConfigError where none does."""
    failed = []
    for kind in KINDS:
        if tiles := tiles_of(kind, tiers):
            loop = loop_of(tiles)
            said = answers(loop, tiers)
            if holds(loop, said):
                return Steady(kind, tiles, fingerprint(loop, said))
            failed.append(f"{kind} {len(said)}")
    raise ConfigError(
        f"deterministic: not possible on this {loop.model.where.type}; {len(_texts(loop))} probe texts got other bits "
        f"in other company, places or tiers, different answers by kind of tiles were: {', '.join(failed)}. Switch it "
        f"off: results then hold to a tolerance"
    )


def answers(loop: Resident, tiers: Sequence[Tier]) -> Answers:
    """All that an empty loop says of the probe texts, in every tier and one order and the other."""
    said = Answers()
    for tier in tiers:
        loop.only(tier)
        for backwards in (False, True):
            said |= _full_house(loop, tier, backwards=backwards)
    loop.only(None)
    return said


def holds(loop: Resident, said: Answers) -> bool:
    """Whether every probe text got the same bits each time."""
    return len(said) == len(_texts(loop))


def fingerprint(loop: Resident, said: Answers) -> str:
    """16 hex digits over what the probe texts came to."""
    return digest(loop.model.dtype, b"".join(probe.to_bytes(8) + words for probe, words in sorted(said)))


def _full_house(loop: Resident, tier: Tier, *, backwards: bool) -> Answers:
    """First so many short probes that every slot has one, then all of them until they fill the tier's tokens: what one
    place gives says nothing of the others."""
    texts = _texts(loop)
    short = [probe for probe, ids in enumerate(texts) if len(ids) <= max(1, tier.tokens // tier.slots)]
    rounds = 1 + tier.tokens // sum(map(len, texts))
    order = [*islice(cycle(short), tier.slots), *list(range(len(texts))) * rounds]
    if backwards:
        order.reverse()
    loop.submit([Request(ticket, texts[probe]) for ticket, probe in enumerate(order)])
    said = Answers()
    while loop.waiting or loop.active:
        for verdict in loop.step():
            words = struct.pack(f"<q{len(verdict.logits)}d", verdict.exit_layer, *verdict.logits)
            said.add((order[verdict.ticket], words))
    return said


def _texts(loop: Resident) -> list[tuple[int, ...]]:
    return [tuple(ids.tolist()) for ids in probes(loop.model.config.vocab_size, loop.model.longest)]
