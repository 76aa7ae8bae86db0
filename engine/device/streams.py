"""Where a resident loop runs: three lanes of work, marks between them, and a step made ready to be repeated.

A lane is a CUDA stream seen from above: work queued on it runs in order, some time later. `Immediate` runs everything
at once, on the CPU. What a lane may not do is reorder; what it may do is be late, and the loop is tested on lanes that
are (tests/engine/test_resident_late.py).

Has run: Immediate. Has not run: CudaDevice, which was written where no CUDA device was at hand; tests/gpu is to run
first.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

Work = Callable[[], object]
RECOMPILE_LIMIT = 256  # of one function; torch's own limit for all that a process compiles
WARM_UPS = 3  # torch's own advice before a capture: libraries set themselves up outside the graph


class Mark(Protocol):
    """A point in a lane's work."""

    def reached(self) -> bool:
        """Whether the work before it is done. Never waits."""

    def wait(self) -> None:
        """Return when the work before it is done."""


class Lane(Protocol):
    """Work in order, later."""

    def run(self, work: Work) -> None:
        """Queue work behind what is queued."""

    def mark(self) -> Mark:
        """A mark behind what is queued."""

    def after(self, mark: Mark) -> None:
        """What is queued on this lane from now on waits for a mark of another."""


class Device(Protocol):
    """Where tensors live, and lanes to work on them. One a runner, owned by the runner's thread."""

    @property
    def where(self) -> torch.device: ...
    @property
    def compute(self) -> Lane:
        """Steps, in order."""

    @property
    def uploads(self) -> Lane:
        """Copies to the device."""

    @property
    def downloads(self) -> Lane:
        """Copies from the device; apart from the uploads, which would otherwise wait for the steps before them."""

    def pinned(self, like: Tensor) -> Tensor:
        """Zeros on the host, of the shape and dtype of `like`, that copies may read and write without the host."""

    def graph(self, step: Callable[[], None]) -> Work:
        """Make a step ready to be repeated on the compute lane. It is run a few times first, on an empty table. The
        work keeps the step: what the step holds lies at addresses that a captured graph has burnt in."""


class _Done:
    def reached(self) -> bool:
        return True

    def wait(self) -> None:
        return


class _Now:
    """A lane that does not queue."""

    def run(self, work: Work) -> None:
        work()

    def mark(self) -> Mark:
        return _Done()

    def after(self, mark: Mark) -> None:
        mark.wait()


@dataclass(frozen=True)
class Immediate:
    """The CPU: no stream, no graph, nothing pinned."""

    where: torch.device = field(default_factory=lambda: torch.device("cpu"))
    compute: Lane = field(default_factory=_Now)
    uploads: Lane = field(default_factory=_Now)
    downloads: Lane = field(default_factory=_Now)

    def pinned(self, like: Tensor) -> Tensor:
        return torch.zeros(like.shape, dtype=like.dtype)

    def graph(self, step: Callable[[], None]) -> Work:
        step()
        return step


class _Event:
    """A mark on a CUDA stream. Whoever waits for it sleeps: a spinning wait would take a core from the stage."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self.event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self.event.record(stream)

    def reached(self) -> bool:
        return bool(self.event.query())  # type: ignore[no-untyped-call]

    def wait(self) -> None:
        self.event.synchronize()


class _Stream:
    """A lane that is a CUDA stream."""

    def __init__(self, where: torch.device) -> None:
        self.stream = torch.cuda.Stream(where)  # type: ignore[no-untyped-call]

    def run(self, work: Work) -> None:
        with torch.cuda.stream(self.stream):
            work()

    def mark(self) -> Mark:
        return _Event(self.stream)

    def after(self, mark: Mark) -> None:
        assert isinstance(mark, _Event), "a mark of another kind of lane. This is a bug."
        self.stream.wait_event(mark.event)


@dataclass(frozen=True)
class Captured:
    """A graph, and what owns the memory that it reads. Compiled code belongs to the compiler's cache: a process that
    resets that loses its fused steps."""

    replayed: torch.cuda.CUDAGraph
    owners: tuple[object, ...]

    def __call__(self) -> None:
        self.replayed.replay()


class CudaDevice:
    """Streams of their own, pinned memory, CUDA graphs in one shared pool: they run one after the other.

    `fuse` compiles a step before it is captured, so that pointwise work becomes few kernels; a compile takes its time
    at start, once a tier. `deterministic` keeps the compiler from choosing kernels by stopwatch and, where it has a
    rule for that, by the number of rows. Not yet run on a card."""

    def __init__(self, where: torch.device, fuse: bool = False, deterministic: bool = False) -> None:
        self.where, self._deterministic = where, deterministic
        self._compute, self.uploads, self.downloads = _Stream(where), _Stream(where), _Stream(where)
        self._fuse, self._pool = fuse, torch.cuda.graph_pool_handle()
        # Weights and tables were made on the current stream, which these lanes do not follow otherwise.
        for lane in (self._compute, self.uploads, self.downloads):
            lane.stream.wait_stream(torch.cuda.current_stream(where))

    @property
    def compute(self) -> Lane:
        return self._compute

    def pinned(self, like: Tensor) -> Tensor:
        return torch.zeros(like.shape, dtype=like.dtype, pin_memory=True)

    def graph(self, step: Callable[[], None]) -> Work:
        work = self._fused(step) if self._fuse else step
        stream = self._compute.stream
        stream.wait_stream(torch.cuda.current_stream(self.where))
        with torch.cuda.stream(stream), _many_compilations() if self._fuse else nullcontext():
            for _ in range(WARM_UPS):
                work()
        stream.synchronize()
        captured = torch.cuda.CUDAGraph()
        # thread_local: what other threads of the stage do meanwhile is no part of this graph and must not break it.
        with torch.cuda.graph(captured, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            work()
        return Captured(captured, (step, work))

    def _fused(self, step: Callable[[], None]) -> Work:
        from torch._inductor import config

        wanted = ("deterministic", "batch_invariant") if self._deterministic else ()
        options: dict[str, Any] = {name: True for name in wanted if hasattr(config, name)}
        return torch.compile(step, fullgraph=True, dynamic=False, options=options)


def _many_compilations() -> AbstractContextManager[None]:
    """Every tier, dtype and model is one more compilation of the same lines, which the compiler takes for a fault."""
    patched: AbstractContextManager[None] = torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT)
    return patched
