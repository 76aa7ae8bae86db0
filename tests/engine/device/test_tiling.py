"""Deterministic mode of a resident loop takes the fastest kind of tiles that holds, and is refused by name where none
does. Kernels that keep no promise are stand-ins: a true product, a little off where the flaw has it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from earlybird.engine.config import EngineConfig
from earlybird.engine.engine import Engine
from earlybird.engine.errors import ConfigError

SETTINGS = EngineConfig(
    policy="fixed:2", runner="resident", device="cpu", tiers=((8, 128, 1), (32, 1024, 2))
)  # 8 of the first's tiles

Flaw = Callable[[Tensor], Tensor]  # products (tiles, rows, columns) -> what each is to be multiplied with


def by_number(products: Tensor) -> Tensor:
    """Another kernel for each number of tiles."""
    return torch.full((len(products), 1, 1), 1 + 1e-3 * len(products))


def alone(products: Tensor) -> Tensor:
    """Another kernel for one."""
    return torch.full((len(products), 1, 1), 1 + 1e-3 * (len(products) == 1))


def by_place(products: Tensor) -> Tensor:
    """Another kernel for the last tiles of many."""
    return 1 + 1e-3 * (torch.arange(len(products)) >= 6).float()[:, None, None]


@pytest.fixture
def flawed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Flaw], None]:
    def teach(flaw: Flaw) -> None:
        for name in ("bmm", "baddbmm"):
            real = getattr(torch, name)

            def product(*args: Tensor, real: Callable[..., Tensor] = real) -> Tensor:
                true = real(*args)
                return true * flaw(true)

            monkeypatch.setattr(torch, name, product)

    return teach


def test_the_fastest_kind_is_taken_where_it_holds() -> None:
    engine = Engine.load(SETTINGS)
    assert (engine.tiles, engine._resident.tiles) == ("whole", (128, 8, True))
    assert engine.numerics == Engine.load(SETTINGS).numerics


@pytest.mark.parametrize(
    ("flaw", "kind", "tiles"),
    [(alone, "half", (64, 4, True)), (by_number, "single", (512, 8, False)), (by_place, "single", (512, 8, False))],
)
def test_a_kind_that_does_not_hold_is_passed_over(
    flawed: Callable[..., Any], flaw: Flaw, kind: str, tiles: tuple[int, int, bool]
) -> None:
    """What only a full tier shows is seen, too."""
    flawed(flaw)
    engine = Engine.load(SETTINGS)
    assert (engine.tiles, engine._resident.tiles) == (kind, tiles)


def test_where_none_holds_deterministic_mode_is_refused_by_name(
    flawed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    flawed(by_number)
    linear, calls = torch.nn.functional.linear, [0]

    def at_whim(*args: Any) -> Tensor:
        calls[0] += 1
        return linear(*args) * (1 + 1e-6 * calls[0])

    monkeypatch.setattr(torch.nn.functional, "linear", at_whim)
    with pytest.raises(ConfigError, match=r"not possible on this cpu; 24 probe texts .* single \d+"):
        Engine.load(SETTINGS).runner()


def test_other_runners_and_fast_mode_have_no_tiles() -> None:
    assert Engine.load(EngineConfig(runner="packed", device="cpu")).tiles is None
    assert Engine.load(EngineConfig(runner="resident", device="cpu", deterministic=False)).tiles is None
