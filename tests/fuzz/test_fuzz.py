"""Nothing but outcomes: a million odd inputs through everything that reads foreign bytes.

`make test` runs a short form, `make fuzz` the long one. EARLYBIRD_FUZZ is the number of inputs per target,
EARLYBIRD_FUZZ_SEED chooses another stream of them. An input that fails is cut down and kept in crashes/, which every
run reads again.
"""

import hashlib
import os
import resource
from functools import partial
from pathlib import Path

import pytest

from fuzz_targets import SEEDS, TARGETS, Target
from mutation import Mutator, shrunk

CRASHES = Path(__file__).parent / "crashes"
COUNT = int(os.environ.get("EARLYBIRD_FUZZ", "20000"))
SLOW = {"outcomes": 10, "vendors": 20}  # a target that takes so many times as long gets so many times fewer
SEED = os.environ.get("EARLYBIRD_FUZZ_SEED", "1")
WARM = 500  # inputs after which tables and caches stand
GROWTH_MB = 256  # of memory, for caches that are bounded


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.timeout(10_800)
def test_nothing_but_outcomes(name: str) -> None:
    """Each input gives a result or an error that is declared, within bounded memory."""
    target, count = TARGETS[name], COUNT // SLOW.get(name, 1)
    before_mb = 0.0
    for number, value in enumerate(Mutator(SEEDS, f"{SEED}/{name}").inputs(count)):
        if number == min(WARM, count - 1):
            before_mb = _largest_mb()
        try:
            target(value)
        except Exception as error:
            kept = _keep(name, shrunk(value, partial(_fails, target, kind=type(error))))
            raise AssertionError(f"{name}: input {number} of seed {SEED}, kept as {kept}: {error!r}") from error
    assert _largest_mb() - before_mb < GROWTH_MB


@pytest.mark.parametrize("path", sorted(CRASHES.glob("*.bin")), ids=lambda path: path.stem)
def test_what_once_failed_stays_mended(path: Path) -> None:
    """The name of a file begins with that of its target."""
    TARGETS[path.stem.split("-")[0]](path.read_bytes())


def test_the_fuzzer_finds_what_is_broken(tmp_path: Path) -> None:
    """A reader that cannot stand a lone surrogate is found, and its input cut down to it."""

    def broken(value: bytes) -> None:
        value.decode("utf-8", "surrogatepass").encode()

    failing = []
    for value in Mutator(SEEDS, "self").inputs(2_000):
        try:
            broken(value)
        except UnicodeEncodeError:
            failing.append(value)
        except UnicodeDecodeError:
            continue
    assert failing
    least = shrunk(failing[0], partial(_fails, broken, kind=UnicodeEncodeError))
    assert len(least) == 3


def _fails(target: Target, value: bytes, kind: type[Exception]) -> bool:
    try:
        target(value)
    except kind:
        return True
    except Exception:
        return False
    return False


def _keep(name: str, value: bytes) -> Path:
    path = CRASHES / f"{name}-{hashlib.sha256(value).hexdigest()[:12]}.bin"
    path.write_bytes(value)
    return path


def _largest_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
