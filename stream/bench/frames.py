"""Cost of a schema registry's frames per signal, beside the steps that are always there."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TypeVar, get_args

from earlybird.schemas import release
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.framed_values import FramedValues
from earlybird.stream.adapters.schema_registry import URL, TopicSchema, open_client, register_with
from earlybird.stream.adapters.signal_framing import KINDS, FramedFormat, SignalFraming
from earlybird.stream.ports import Outgoing, Record

_TOPIC = "signals"
T = TypeVar("T")


def frame_steps(outgoing: Sequence[Outgoing]) -> Iterator[tuple[str, Callable[[], list[bytes]]]]:
    """Yield the work of frames, named: to write each format, and to read Avro.

    The registry is the client library's own in memory, which is asked once. Yields nothing without the extra.
    """
    if not all(map(find_spec, ("authlib", "fastavro", "jsonschema"))):
        return
    signals = [one.value or b"" for one in outgoing]
    for wanted in get_args(FramedFormat):
        client = open_client({URL: "mock://bench"})
        assert client is not None, "no URL. This is a bug."
        kind, suffix = KINDS[wanted]
        register_with(client, [TopicSchema(_TOPIC, release.latest(Signal, suffix), None, kind)])
        framing, values = SignalFraming(client, _TOPIC, wanted), FramedValues(client)
        yield f"frame, {wanted}", partial(_each, framing.framed, signals)
        records = [Record(_TOPIC, 0, 0, None, framing.framed(signal)) for signal in signals]
        yield f"read, {wanted}", partial(_each, values.to_json, records)


def _each(work: Callable[[T], bytes], given: Sequence[T]) -> list[bytes]:
    return [work(one) for one in given]
