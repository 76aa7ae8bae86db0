"""Exceptions that the engine raises on purpose.

EngineError
├── ConfigError          an invalid setting, found on construction
├── ModelError           an unusable model folder
│   ├── NotAModel        not a model folder, or a file is missing or unreadable
│   ├── ManifestMismatch a file differs from the manifest
│   └── NotTrainedForExits   an exit policy for a model that was not trained for early exits
├── DataError            an unusable file of training texts
├── DeviceLost           the accelerator failed: nothing of this process on it is usable any more
└── RequestError         a request that cannot be run
    └── SequenceTooLong
"""


class EngineError(Exception):
    """Base of the engine's errors."""


class ConfigError(EngineError):
    """An invalid setting."""


class ModelError(EngineError):
    """An unusable model folder."""


class NotAModel(ModelError):
    """Not a model folder, or a file in it is missing or unreadable."""


class ManifestMismatch(ModelError):
    """A file or value that differs from the manifest."""


class NotTrainedForExits(ModelError):
    """An early-exit policy for a model whose depths were not all trained to answer."""


class DataError(EngineError):
    """An unusable file of training texts."""


class DeviceLost(EngineError):
    """An accelerator failure that no retry in this process can repair."""


class RequestError(EngineError):
    """A request that cannot be run."""


class SequenceTooLong(RequestError):
    """More tokens than a slot holds."""

    def __init__(self, ticket: int, n_tokens: int, limit: int) -> None:
        super().__init__(f"request {ticket}: 1 to {limit} tokens allowed, was {n_tokens}")
        self.ticket, self.n_tokens, self.limit = ticket, n_tokens, limit
