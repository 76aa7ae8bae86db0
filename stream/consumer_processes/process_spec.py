"""Start-up data that a consumer process receives from its parent."""

import copyreg
import mmap
import os
import pickle
from dataclasses import dataclass
from types import MappingProxyType

from earlybird.engine.text.encoder import TextEncoder
from earlybird.stream.config.settings import Settings
from earlybird.stream.consumer_processes.channel import Channel
from earlybird.stream.stage.outcome import Origin


def _view(table: dict[object, object]) -> MappingProxyType[object, object]:
    return MappingProxyType(table)


# The encoder's tables are read-only views, which pickle does not support by itself.
copyreg.pickle(MappingProxyType, lambda view: (_view, (dict(view),)))


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """Everything that a consumer process needs to start.

    It includes the text side of the model: no consumer process opens a model folder, so all consumer processes tokenise
    alike.
    """

    settings: Settings
    origin: Origin
    encoder: TextEncoder
    languages: tuple[str, ...]
    channel: Channel
    number: int

    def write(self) -> int:
        """Pickle this into anonymous memory and return its file descriptor.

        A child that inherits the descriptor passes it to `read`. The memory has no name, since the settings hold
        secrets.
        """
        descriptor = os.memfd_create("earlybird-process-spec")
        with open(descriptor, "wb", closefd=False) as file:
            pickle.dump(self, file)
        return descriptor

    @staticmethod
    def read(descriptor: int) -> "ProcessSpec":
        """Load the spec that the parent wrote and close the descriptor."""
        with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as content:
            spec = pickle.loads(content)
        os.close(descriptor)
        assert isinstance(spec, ProcessSpec), f"no process spec, was {spec!r}. This is a bug."
        return spec
