"""Initial weights of a training.

Sources: a folder in our format, a Hugging Face ALBERT, layers of another encoder, or random weights.

Letters: V pieces, E embedding size, H hidden size, P positions.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from earlybird.engine.config import ModelConfig
from earlybird.engine.errors import ConfigError, NotAModel
from earlybird.engine.manifest import LABELS, MANIFEST, canonical_rows
from earlybird.engine.text import tokenizer as tokenizers
from earlybird.engine.text.tokenizer import Tokenizer
from earlybird.engine.training.encoder import ABOUT, HEAD
from earlybird.engine.training.network import initial_tensors
from earlybird.engine.weights import in_label_order, load, renamed, shapes


@dataclasses.dataclass(frozen=True)
class Start:
    """Weights and tokenizer to train from."""

    name: str
    config: ModelConfig
    tensors: Mapping[str, Tensor]
    tokenizer: Tokenizer


def from_model(source: str) -> Start:
    """Start from a model folder or a Hugging Face ALBERT.

    A folder in our format, or a Hugging Face ALBERT folder or hub name, with or without a classifier. Raises NotAModel.
    """
    folder = Path(source)
    if (folder / MANIFEST).exists():
        checkpoint = load(folder)
        return Start(checkpoint.id, checkpoint.config, checkpoint.tensors, checkpoint.tokenizer)
    return _albert(source)


def from_layers(
    source: str, chosen: Sequence[int], embedding_size: int, layers: int | None, vocabulary: str | None = None
) -> Start:
    """Start from layers of a BERT-like encoder.

    One layer is shared by all passes, several are one per group of passes. The encoder is a Hugging Face folder or hub
    name, or a teacher's folder, whose classifier is kept. Its word embeddings are factorised to `embedding_size` by
    SVD, exactly so at the hidden size. `layers`: passes; None: 8 of one layer, else as many as are chosen.
    `vocabulary`: a model whose tokenizer is taken; of the word embeddings only those of its pieces are kept. Mean
    pooling, positions after the projection. Raises ConfigError, NotAModel.
    """
    tokenizer = _tokenizer(source)
    model = _pretrained("BertModel", source, add_pooling_layer=False)
    theirs = model.config
    for layer in chosen:
        if not 0 <= layer < theirs.num_hidden_layers:
            raise ConfigError(f"layer: 0 to {theirs.num_hidden_layers - 1} required, was {layer}")
    if embedding_size > theirs.hidden_size:
        raise ConfigError(f"embedding_size: at most {theirs.hidden_size} required, was {embedding_size}")
    found = {name: tensor.detach().float() for name, tensor in model.state_dict().items()}
    embedded = found["embeddings.word_embeddings.weight"]
    if vocabulary is not None:
        fewer = _tokenizer(vocabulary)
        embedded, tokenizer = embedded[_rows_of(fewer, tokenizer)], fewer
    config = ModelConfig(
        vocab_size=len(embedded),
        embedding_size=embedding_size,
        hidden_size=theirs.hidden_size,
        heads=theirs.num_attention_heads,
        ffn_size=theirs.intermediate_size,
        layers=layers or (8 if len(chosen) == 1 else len(chosen)),
        max_positions=theirs.max_position_embeddings,
        embedding="project_then_norm",
        pool="mean",
        activation=theirs.hidden_act,
        layer_norm_eps=theirs.layer_norm_eps,
        groups=len(chosen),
    )
    tensors = initial_tensors(config, torch.Generator().manual_seed(0))
    words, project = factorised(embedded, embedding_size)
    types = found["embeddings.token_type_embeddings.weight"][0]
    tensors |= {
        "embedding.words": words,
        "embedding.project.weight": project,
        "embedding.positions": found["embeddings.position_embeddings.weight"] + types,
    }
    for part in ("weight", "bias"):
        tensors[f"embedding.norm.{part}"] = found[f"embeddings.LayerNorm.{part}"]
        for group, layer in enumerate(chosen):
            where, name = f"encoder.layer.{layer}", config.group_name(group)
            triple = [found[f"{where}.attention.self.{each}.{part}"] for each in ("query", "key", "value")]
            tensors[f"{name}.query_key_value.{part}"] = torch.cat(triple)
            for ours, their_name in _BERT.items():
                tensors[f"{name}.{ours}.{part}"] = found[f"{where}.{their_name}.{part}"]
    if (head := Path(source) / HEAD).exists():
        tensors |= {f"classifier.0.{part}": tensor for part, tensor in load_file(head).items()}
    return Start(f"{source}#{','.join(map(str, chosen))}", config, tensors, tokenizer)


def from_scratch(source: str) -> Start:
    """Start from a model's geometry and tokenizer, without its weights.

    `reshaped` draws all tensors. The model is what from_model reads. Raises NotAModel.
    """
    return dataclasses.replace(from_model(source), name="scratch", tensors={})


def reshaped(start: Start, seed: int, **changes: Any) -> Start:
    """Change settings of a start: layers, groups, classifiers, learned_exits, adapters.

    Tensors that only the new model has are drawn at random; a shared classifier becomes the initial state of per-depth
    ones, a shared layer that of groups. Where every pass has its own layer, it keeps one if `layers` changes, and new
    ones begin as the last. Raises ConfigError for another number of groups where there were several.
    """
    each_own = start.config.groups == start.config.layers > 1
    if each_own and "layers" in changes:
        changes.setdefault("groups", changes["layers"])
    config = dataclasses.replace(start.config, **changes)
    if start.config.groups not in (1, config.groups) and not (each_own and config.groups == config.layers):
        raise ConfigError(f"groups: {start.config.groups} required, as in the start, was {config.groups}")
    tensors = initial_tensors(config, torch.Generator().manual_seed(seed))
    for name in tensors:
        kept = start.tensors.get(_origin(name, start.config, beyond=True))
        if kept is not None and kept.shape == tensors[name].shape:
            tensors[name] = kept.float()
    return dataclasses.replace(start, config=config, tensors=tensors)


def mixed(tensors: Mapping[str, Tensor], others: Sequence[tuple[str, float]]) -> dict[str, Tensor]:
    """Mix other models' weights into those of the same shapes (WiSE-FT, arXiv 2109.01903).

    `others` are models with the share of each; the rest is left to `tensors`. A shared layer is mixed into every group,
    a shared classifier into that of every depth. Raises ConfigError, NotAModel.
    """
    shares = [share for _, share in others]
    if min(shares) <= 0.0 or sum(shares) >= 1.0:
        raise ConfigError(f"mix: a share between 0 and 1 required, in all, too, was {shares}")
    result = {name: tensor.float() * (1.0 - sum(shares)) for name, tensor in tensors.items()}
    for model, share in others:
        other = from_model(model)
        origins = {name: _origin(name, other.config) for name in tensors}
        theirs = {name: tensor.shape for name, tensor in other.tensors.items()}
        if theirs != {origins[name]: tensor.shape for name, tensor in tensors.items()}:
            raise ConfigError(f"mix: a model of the same shapes required, was {model}")
        for name, origin in origins.items():
            result[name] += share * other.tensors[origin].float()
    return result


def _origin(name: str, config: ModelConfig, *, beyond: bool = False) -> str:
    """Return which tensor of a model of `config` corresponds to another model's `name`.

    What the model shares corresponds to each of the other's own. `beyond`: numbers beyond its last stand for the last.
    """
    kind, number, *rest = name.split(".")
    counts = {"layer": config.groups, "classifier": 1 if config.classifiers == "shared" else config.layers}
    if kind not in counts or not number.isdigit():
        return name
    last = counts[kind] - 1
    place = min(int(number), last) if beyond or last == 0 else int(number)
    return ".".join([config.group_name(place) if kind == "layer" else f"{kind}.{place}", *rest])


def factorised(words: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Factorise words (V, H) by SVD into (V, size) and (H, size).

    words = first @ second.T, optimal in the least squares sense.
    """
    left, values, rows = torch.linalg.svd(words.double(), full_matrices=False)
    root = values[:size].sqrt()
    return (left[:, :size] * root).float(), (rows[:size].T * root).float()


_BERT = {  # of a layer
    "attended": "attention.output.dense",
    "attended_norm": "attention.output.LayerNorm",
    "widen": "intermediate.dense",
    "narrow": "output.dense",
    "norm": "output.LayerNorm",
}


def _albert(source: str) -> Start:
    torch.manual_seed(0)  # for a head that the source lacks
    model = _pretrained("AlbertForSequenceClassification", source, num_labels=len(LABELS), ignore_mismatched_sizes=True)
    theirs = model.config
    if getattr(theirs, "inner_group_num", 1) != 1:
        raise NotAModel(f"{source}: one layer a pass required")
    config = ModelConfig(
        vocab_size=theirs.vocab_size,
        embedding_size=theirs.embedding_size,
        hidden_size=theirs.hidden_size,
        heads=theirs.num_attention_heads,
        ffn_size=theirs.intermediate_size,
        layers=theirs.num_hidden_layers,
        max_positions=theirs.max_position_embeddings,
        embedding="norm_then_project",
        pool="first",
        activation=theirs.hidden_act,
        layer_norm_eps=theirs.layer_norm_eps,
        groups=getattr(theirs, "num_hidden_groups", 1),
    )
    found = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    tensors = renamed(Path(source), found, config)
    missing = shapes(config).keys() - tensors.keys()
    assert not missing, f"tensors {sorted(missing)}. This is a bug."
    names = tuple(str(theirs.id2label[number]).strip().lower() for number in range(len(LABELS)))
    with suppress(ValueError):  # other labels: the classifier learns ours anew
        tensors = in_label_order(tensors, canonical_rows(names, len(LABELS)))
    return Start(source, config, tensors, _tokenizer(source))


def _pretrained(kind: str, source: str, **options: Any) -> Any:
    import transformers  # takes seconds to import

    try:
        library: Any = transformers
        return getattr(library, kind).from_pretrained(source, trust_remote_code=False, **options)
    except Exception as error:  # OSError, ValueError, RuntimeError and others, depending on the version
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise NotAModel(f"{source}: transformers cannot load it as {kind}, {reason}") from None


def _rows_of(fewer: Tokenizer, tokenizer: Tokenizer) -> Tensor:
    """Return the row of each of `fewer`'s pieces in an embedding of `tokenizer`'s, (V,)."""
    known = tokenizer.pieces.get_vocab()
    pieces = sorted(fewer.pieces.get_vocab().items(), key=lambda item: item[1])
    if unknown := [piece for piece, _ in pieces if piece not in known]:
        raise ConfigError(f"vocabulary: pieces of the start's tokenizer required, was {unknown[0]!r} among others")
    return torch.tensor([known[piece] for piece, _ in pieces])


def _tokenizer(source: str) -> Tokenizer:
    folder = Path(source)
    if (folder / MANIFEST).exists() or (folder / ABOUT).exists():
        return tokenizers.bundled(folder)
    return tokenizers.hugging_face(folder, download=not folder.is_dir())
