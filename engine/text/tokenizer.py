"""A model folder's tokenizer, its hash, and the key that identifies duplicate texts."""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Pieces

from earlybird.engine.errors import NotAModel


@dataclass(frozen=True)
class Tokenizer:
    """Tokenizer from text to piece ids; only the tokenizer adds special tokens.

    A "[SEP]" written in a tweet is read as five characters.
    """

    pieces: Any
    sha256: str  # of the tokenizer.json, or of the serialised tokenizer that transformers built

    @property
    def size(self) -> int:
        """Number of pieces, added ones included."""
        return int(self.pieces.get_vocab_size(with_added_tokens=True))

    @property
    def frame(self) -> tuple[int, ...]:
        """Ids of the empty text: the special tokens around every text."""
        return tuple(self.pieces.encode("").ids)

    @property
    def specials(self) -> frozenset[int]:
        """Ids that carry no text: frame, padding, masks, unknown piece, SentencePiece's space."""
        added = self.pieces.get_added_tokens_decoder()
        silent = {number for number, token in added.items() if token.special} | set(self.frame)
        space = self.pieces.token_to_id("▁")
        return frozenset(silent if space is None else silent | {space})

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the uncut ids of each text, frame included; texts must be valid Unicode."""
        return [encoding.ids for encoding in self.pieces.encode_batch_fast(list(texts))]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the serialised form; settings outside of it are restored on loading."""
        return _unpickled, (self.pieces.to_str(), self.sha256)


def bundled(folder: Path, name: str = "tokenizer.json") -> Tokenizer:
    """Load the tokenizer.json of a folder in our format; raises NotAModel.

    The tokenizer's hash is that of the file.
    """
    path = folder / name
    try:
        content = path.read_bytes()
        pieces = Pieces.from_str(content.decode("utf-8"))
    except OSError as error:
        raise NotAModel(f"{path}: cannot be read, {error.strerror}") from None
    except Exception as error:  # the library raises bare Exception
        raise NotAModel(f"{path}: no tokenizer, {error}") from None
    return Tokenizer(_plain(pieces), hashlib.sha256(content).hexdigest())


def hugging_face(folder: Path, *, download: bool = False) -> Tokenizer:
    """Load the tokenizer that transformers' AutoTokenizer builds for a folder; raises NotAModel.

    `download`: the folder may be a hub name. No other tokenizer is tried: the fast and the SentencePiece tokenizer of
    one ALBERT folder give different ids for most real lines.
    """
    from transformers import AutoTokenizer  # takes seconds to import; only such folders need it

    try:
        found = AutoTokenizer.from_pretrained(folder, local_files_only=not download, trust_remote_code=False)
    except Exception as error:  # OSError, ValueError, ImportError and others, depending on the version
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if (folder / "spiece.model").exists() and not (folder / "tokenizer.json").exists():
            reason += " (to convert spiece.model it needs the packages sentencepiece and protobuf)"
        raise NotAModel(f"{folder}: transformers finds no tokenizer, {reason}") from None
    pieces = getattr(found, "backend_tokenizer", None)
    if pieces is None:
        raise NotAModel(f"{folder}: a tokenizer of the tokenizers library is required, was {type(found).__name__}")
    if pieces.get_vocab_size() <= len(pieces.get_added_tokens_decoder()):  # transformers makes one up without files
        raise NotAModel(f"{folder}: a tokenizer with pieces is required, was none; is its tokenizer.json missing?")
    pieces = _plain(pieces)
    return Tokenizer(pieces, hashlib.sha256(pieces.to_str().encode()).hexdigest())


def duplicate_key(token_ids: Sequence[int], model_sha256: str, config_hash: str, numerics: str) -> str:
    """Return 32 hex digits that identify a text as the model reads it.

    Equal keys mean equal verdicts, bit for bit.
    """
    key = hashlib.sha256(f"{model_sha256}:{config_hash}:{numerics}:".encode())
    key.update(struct.pack(f"<{len(token_ids)}I", *token_ids))
    return key.hexdigest()[:32]


def _unpickled(serialised: str, sha256: str) -> Tokenizer:
    return Tokenizer(_plain(Pieces.from_str(serialised)), sha256)


def _plain(pieces: Any) -> Any:
    pieces.no_truncation()
    pieces.no_padding()
    pieces.encode_special_tokens = True
    return pieces
