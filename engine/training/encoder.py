"""Teacher: a whole BERT-like encoder with a linear classifier on the mean of its states.

Letters: S texts, L longest text, H hidden size, C classes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from earlybird.engine.errors import NotAModel
from earlybird.engine.exits.policy import Heads
from earlybird.engine.manifest import LABELS
from earlybird.engine.text.assembly import assembly
from earlybird.engine.text.encoder import TextEncoder
from earlybird.engine.text.profiles import profile
from earlybird.engine.text.tokenizer import bundled
from earlybird.engine.training.network import Batch
from earlybird.engine.training.onnx_encoder import read_bert

ABOUT, HEAD = "teacher.json", "classifier.safetensors"
SMALL = 384  # hidden size of the small sentence encoders: heads of 32; an ONNX file does not tell, others have 64


class EncoderNetwork(nn.Module):
    """Encoder and classifier with the interface of network.Network: one exit, after the last layer."""

    def __init__(self, encoder: Any, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Linear(encoder.config.hidden_size, len(LABELS))
        self.dropped = nn.Dropout(dropout)
        self.config = SimpleNamespace(layers=1, n_labels=len(LABELS))

    def forward(self, batch: Batch) -> list[Heads]:
        """Return the logits (S, C) of the only exit."""
        states = self.encoder(input_ids=batch.ids, attention_mask=batch.real.long()).last_hidden_state  # (S, L, H)
        pooled = (states * batch.real[:, :, None]).sum(dim=1) / batch.real.sum(dim=1, keepdim=True)
        return [Heads(self.classifier(self.dropped(pooled)))]

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights, detached, by their names."""
        return {name: tensor.detach().clone() for name, tensor in self.state_dict().items()}


@dataclass(frozen=True)
class Teacher:
    """An encoder network and how it reads texts."""

    network: EncoderNetwork
    reader: TextEncoder


def start_teacher(source: Path, profile_name: str, max_tokens: int, dropout: float, seed: int) -> Teacher:
    """Load an encoder to train on; raises NotAModel.

    An ONNX file, a Hugging Face BERT folder or a teacher's folder. Beside NAME.onnx lies tokenizer.json or
    NAME-tokenizer.json.
    """
    if (source / ABOUT).exists():
        teacher = load_teacher(source, dropout)
        return replace(teacher, reader=replace(teacher.reader, profile=profile(profile_name), max_tokens=max_tokens))
    torch.manual_seed(seed)  # the classifier is drawn
    if source.suffix == ".onnx":
        own = source.with_name(f"{source.stem}-tokenizer.json")
        tokenizer = bundled(source.parent, own.name if own.exists() else "tokenizer.json")
        encoder = _from_tensors(read_bert(source), dropout)
    else:
        tokenizer = bundled(source)
        encoder = _from_folder(source, dropout)
    reader = TextEncoder(profile(profile_name), assembly("parts-v2"), tokenizer, max_tokens)
    return Teacher(EncoderNetwork(encoder, dropout), reader)


def save_teacher(folder: Path, teacher: Teacher) -> Path:
    """Write a teacher's folder.

    A Hugging Face BertModel, its tokenizer, the classifier and how texts are read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network, reader = teacher.network, teacher.reader
    network.encoder.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(reader.tokenizer.pieces.to_str(), "utf-8")
    head = {name: tensor.contiguous() for name, tensor in network.classifier.state_dict().items()}
    (folder / HEAD).write_bytes(save(head))
    about = {"labels": LABELS, "profile": reader.profile.name, "max_tokens": reader.max_tokens}
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    return folder


def load_teacher(folder: Path, dropout: float = 0.0) -> Teacher:
    """Load what `save_teacher` wrote; raises NotAModel."""
    try:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        head = load_file(folder / HEAD)
        labels, name, max_tokens = about["labels"], about["profile"], int(about["max_tokens"])
    except Exception as error:  # OSError, JSON's, safetensors' own errors, KeyError
        raise NotAModel(f"{folder}: no teacher, {error}") from None
    if tuple(labels) != LABELS:
        raise NotAModel(f"{folder}: labels {', '.join(LABELS)} required, was {labels}")
    network = EncoderNetwork(_from_folder(folder, dropout), dropout)
    network.classifier.load_state_dict(head)
    return Teacher(network, TextEncoder(profile(name), assembly("parts-v2"), bundled(folder), max_tokens))


def trains(layers: Sequence[int]) -> Any:
    """Return whether a parameter is trained: the classifier and the encoder's `layers`."""
    prefixes = ("classifier.", *(f"encoder.encoder.layer.{number}." for number in layers))
    return lambda name: name.startswith(prefixes)


def _from_tensors(tensors: dict[str, Tensor], dropout: float) -> Any:
    import transformers  # takes seconds to import

    library: Any = transformers
    words = tensors["embeddings.word_embeddings.weight"]
    layers = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layer."))
    config = library.BertConfig(
        vocab_size=words.shape[0],
        hidden_size=words.shape[1],
        num_hidden_layers=layers,
        num_attention_heads=words.shape[1] // (32 if words.shape[1] == SMALL else 64),
        intermediate_size=tensors["encoder.layer.0.intermediate.dense.bias"].shape[0],
        max_position_embeddings=tensors["embeddings.position_embeddings.weight"].shape[0],
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    encoder = library.BertModel(config, add_pooling_layer=False)
    missing, unknown = encoder.load_state_dict(tensors, strict=False)
    if unknown or any(name != "embeddings.position_ids" for name in missing):
        raise NotAModel(f"ONNX encoder: tensors of a BERT required; missing {missing}, unknown {unknown}")
    return encoder


def _from_folder(folder: Path, dropout: float) -> Any:
    import transformers  # takes seconds to import

    library: Any = transformers
    options = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    try:
        return library.BertModel.from_pretrained(folder, add_pooling_layer=False, local_files_only=True, **options)
    except Exception as error:  # OSError, ValueError, RuntimeError and others, depending on the version
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise NotAModel(f"{folder}: transformers cannot load it as BertModel, {reason}") from None
