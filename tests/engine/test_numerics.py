"""The fingerprint of the arithmetic."""

import re
from collections.abc import Callable
from typing import Any

import torch

from earlybird.engine.numerics import numerics


def test_numerics_are_16_hex_digits_and_repeat(tiny: Callable[..., Any]) -> None:
    """Another start of the same model on the same machine says the same."""
    first, again = numerics(tiny(deterministic=True)), numerics(tiny(deterministic=True))
    assert first == again
    assert re.fullmatch(r"[0-9a-f]{16}", first)


def test_numerics_see_the_weights_and_the_dtype(tiny: Callable[..., Any]) -> None:
    """Whatever changes a bit of a logit changes the fingerprint."""
    assert len({numerics(tiny()), numerics(tiny(torch.float64)), numerics(tiny(seed=8))}) == 3


def test_numerics_see_the_last_bit_of_one_weight(tiny: Callable[..., Any]) -> None:
    """One embedding moved to the next float."""
    model = tiny(deterministic=True)
    before = numerics(model)
    piece = model._pieces[101 % 97, 3]
    model._pieces[101 % 97, 3] = torch.nextafter(piece, piece + 1)
    assert numerics(model) != before


def test_numerics_do_not_depend_on_torchs_threads(tiny: Callable[..., Any]) -> None:
    """Engines run on one thread, whatever the loading process does."""
    model = tiny()
    expected = numerics(model)
    torch.set_num_threads(2)
    assert numerics(model) == expected
    assert torch.get_num_threads() == 2
