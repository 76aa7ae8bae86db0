"""Execution of a resident loop: lanes of work, marks between them, and repeatable steps.

A lane is an abstract CUDA stream: work queued on it runs in order, some time later. `Immediate` runs everything at
once, on the CPU. A lane may not reorder but may be late, and the loop is tested on late lanes
(tests/engine/device/test_streams.py).

Immediate is tested. CudaDevice was written without a CUDA device at hand and has not run; run tests/gpu first.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

Work = Callable[[], object]
RECOMPILE_LIMIT = 256  # per function; equal to torch's limit for a whole process
WARM_UPS = 3  # torch's advice before a capture, so that libraries initialise outside the graph


class StreamMark(Protocol):
    """A point in a lane's work, such as a CUDA event."""

    def reached(self) -> bool:
        """Return whether the work before the mark is done; never waits."""

    def wait(self) -> None:
        """Block until the work before the mark is done."""


class Stream(Protocol):
    """A queue of work that runs in order, some time later."""

    def run(self, work: Work) -> None:
        """Queue work after the work already queued."""

    def mark(self) -> StreamMark:
        """Return a mark after the work already queued."""

    def after(self, mark: StreamMark) -> None:
        """Make work queued from now on wait for another lane's mark."""


class Device(Protocol):
    """Device of the tensors, with its lanes; one per runner, owned by the runner's thread."""

    @property
    def where(self) -> torch.device: ...
    @property
    def compute(self) -> Stream:
        """Lane of the steps."""

    @property
    def uploads(self) -> Stream:
        """Lane of the copies to the device."""

    @property
    def downloads(self) -> Stream:
        """Lane of the copies from the device.

        It is separate from the uploads, which would otherwise wait for the steps before the downloads.
        """

    def pinned(self, like: Tensor) -> Tensor:
        """Return host zeros, shaped like `like`, for copies that need no host work.

        The dtype is that of `like`, too.
        """

    def graph(self, step: Callable[[], None]) -> Work:
        """Make a step repeatable on the compute lane.

        The step is run a few times first, on an empty table. The returned work keeps a reference to the step, since a
        captured graph has fixed the addresses of the step's tensors.
        """


class _DoneMark:
    def reached(self) -> bool:
        return True

    def wait(self) -> None:
        return


class _ImmediateStream:
    """A lane that runs work at once."""

    def run(self, work: Work) -> None:
        work()

    def mark(self) -> StreamMark:
        return _DoneMark()

    def after(self, mark: StreamMark) -> None:
        mark.wait()


@dataclass(frozen=True)
class Immediate:
    """CPU device without streams, graphs or pinned memory."""

    where: torch.device = field(default_factory=lambda: torch.device("cpu"))
    compute: Stream = field(default_factory=_ImmediateStream)
    uploads: Stream = field(default_factory=_ImmediateStream)
    downloads: Stream = field(default_factory=_ImmediateStream)

    def pinned(self, like: Tensor) -> Tensor:
        return torch.zeros(like.shape, dtype=like.dtype)

    def graph(self, step: Callable[[], None]) -> Work:
        step()
        return step


class _Event:
    """A mark on a CUDA stream.

    Waiting for it sleeps: a spinning wait would take a core from the stage.
    """

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self.event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self.event.record(stream)

    def reached(self) -> bool:
        return bool(self.event.query())  # type: ignore[no-untyped-call]

    def wait(self) -> None:
        self.event.synchronize()


class _Stream:
    """A lane on a CUDA stream."""

    def __init__(self, where: torch.device) -> None:
        self.stream = torch.cuda.Stream(where)  # type: ignore[no-untyped-call]

    def run(self, work: Work) -> None:
        with torch.cuda.stream(self.stream):
            work()

    def mark(self) -> StreamMark:
        return _Event(self.stream)

    def after(self, mark: StreamMark) -> None:
        assert isinstance(mark, _Event), "a mark of another kind of lane. This is a bug."
        self.stream.wait_event(mark.event)


@dataclass(frozen=True)
class Captured:
    """A CUDA graph with references to the owners of the memory that it reads.

    Compiled code belongs to the compiler's cache: a process that resets that cache loses its compiled steps.
    """

    replayed: torch.cuda.CUDAGraph
    owners: tuple[object, ...]

    def __call__(self) -> None:
        self.replayed.replay()


class CudaDevice:
    """CUDA device with its own streams, pinned memory, and graphs in one shared pool.

    The graphs can share a pool because they run one after the other. `compile` compiles a step before it is captured,
    so that pointwise work becomes few kernels; each tier is compiled at start, which takes time. `deterministic` keeps
    the compiler from choosing kernels by stopwatch and, where it has a rule for that, by the number of rows. Not yet
    run on a card.
    """

    def __init__(self, where: torch.device, compile: bool = False, deterministic: bool = False) -> None:
        self.where, self._deterministic = where, deterministic
        self._compute, self.uploads, self.downloads = _Stream(where), _Stream(where), _Stream(where)
        self._compile, self._pool = compile, torch.cuda.graph_pool_handle()
        # Weights and tables were made on the current stream, which these lanes do not wait for otherwise.
        for lane in (self._compute, self.uploads, self.downloads):
            lane.stream.wait_stream(torch.cuda.current_stream(where))

    @property
    def compute(self) -> Stream:
        return self._compute

    def pinned(self, like: Tensor) -> Tensor:
        return torch.zeros(like.shape, dtype=like.dtype, pin_memory=True)

    def graph(self, step: Callable[[], None]) -> Work:
        work = self._compiled(step) if self._compile else step
        stream = self._compute.stream
        stream.wait_stream(torch.cuda.current_stream(self.where))
        with torch.cuda.stream(stream), _many_compilations() if self._compile else nullcontext():
            for _ in range(WARM_UPS):
                work()
        stream.synchronize()
        captured = torch.cuda.CUDAGraph()
        # thread_local: concurrent work of the stage's other threads is not part of this graph and must not break it.
        with torch.cuda.graph(captured, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            work()
        return Captured(captured, (step, work))

    def _compiled(self, step: Callable[[], None]) -> Work:
        from torch._inductor import config

        wanted = ("deterministic", "batch_invariant") if self._deterministic else ()
        options: dict[str, Any] = {name: True for name in wanted if hasattr(config, name)}
        return torch.compile(step, fullgraph=True, dynamic=False, options=options)


def _many_compilations() -> AbstractContextManager[None]:
    """Raise torch's recompile limit for many tiers, dtypes and models.

    Each of them compiles the same lines again, which the compiler takes for a fault.
    """
    patched: AbstractContextManager[None] = torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT)
    return patched
