"""One set of random weights as two models: transformers' ALBERT and ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from earlybird.engine.config import ModelConfig
from earlybird.engine.weights import renamed


@dataclass(frozen=True)
class PairedModels:
    """The same model twice, in float32.

    `theirs`: AlbertForSequenceClassification in eval mode.
    """

    theirs: Any
    tensors: Mapping[str, Tensor]  # named as in engine.weights.shapes


def paired_models(config: ModelConfig) -> PairedModels:
    """Draw random weights, wide enough that results differ between texts and depths."""
    import transformers

    library: Any = transformers  # its configuration accepts more than its signature declares
    settings = library.AlbertConfig(
        vocab_size=config.vocab_size,
        embedding_size=config.embedding_size,
        hidden_size=config.hidden_size,
        num_attention_heads=config.heads,
        intermediate_size=config.ffn_size,
        num_hidden_layers=config.layers,
        num_hidden_groups=config.groups,
        max_position_embeddings=config.max_positions,
        hidden_act=config.activation,
        layer_norm_eps=config.layer_norm_eps,
        num_labels=config.n_labels,
        attn_implementation="sdpa",
    )
    theirs = library.AlbertForSequenceClassification(settings).eval().requires_grad_(False)
    rng = torch.Generator().manual_seed(0)
    for name, parameter in theirs.named_parameters():
        noise = torch.randn(parameter.shape, generator=rng)
        if "LayerNorm" in name or "layer_norm" in name:
            parameter.copy_(noise.mul_(0.1).add_(1.0 if name.endswith("weight") else 0.0))
        elif "embeddings" in name:
            parameter.copy_(noise)
        elif parameter.dim() == 1:
            parameter.copy_(noise.mul_(0.1))
        else:
            spread = 4.0 if name.startswith("classifier") else 1.0
            parameter.copy_(noise.mul_(spread / parameter.shape[1] ** 0.5))
    tensors = renamed(Path("random"), {name: tensor.clone() for name, tensor in theirs.state_dict().items()}, config)
    return PairedModels(theirs, tensors)
