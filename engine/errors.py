"""Everything engine/ raises on purpose.

EngineError
├── ConfigError          a setting that cannot work, found where it is built
├── ModelError           a model folder that cannot be used
│   ├── NotAModel        the folder is none, or a file is missing or unreadable
│   ├── ManifestMismatch a file differs from what the manifest says
│   └── NotTrainedForExits   an exit policy was asked of a model that was not trained for exits
├── DataError            a file of training texts that cannot be used
├── DeviceLost           the accelerator failed: nothing this process has on it is of use any more
└── RequestError         a request that cannot be run
    └── SequenceTooLong
"""


class EngineError(Exception):
    """Base of this package's errors."""


class ConfigError(EngineError):
    """A setting that cannot work."""


class ModelError(EngineError):
    """A model folder that cannot be used."""


class NotAModel(ModelError):
    """The folder is no model folder, or a file in it is missing or unreadable."""


class ManifestMismatch(ModelError):
    """A file or value differs from what the manifest promises."""


class NotTrainedForExits(ModelError):
    """Exits before the last layer need a model whose every depth was trained to answer."""


class DataError(EngineError):
    """A file of training texts that cannot be used."""


class DeviceLost(EngineError):
    """The accelerator failed in a way that no retry in this process can mend."""


class RequestError(EngineError):
    """A request that cannot be run."""


class SequenceTooLong(RequestError):
    """More tokens than a slot holds."""

    def __init__(self, ticket: int, n_tokens: int, limit: int) -> None:
        super().__init__(f"request {ticket}: 1 to {limit} tokens allowed, was {n_tokens}")
        self.ticket, self.n_tokens, self.limit = ticket, n_tokens, limit
