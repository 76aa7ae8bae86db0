"""Wider word embeddings for a start, filled from another encoder's words.

Letters: V pieces, E embedding size, W width of the other encoder's words, H hidden size.
"""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from earlybird.engine.errors import ConfigError
from earlybird.engine.text.tokenizer import Tokenizer
from earlybird.engine.training.encoder import start_teacher
from earlybird.engine.training.start import Start


def widened(start: Start, size: int, source: str) -> Start:
    """Widen a start's word embeddings to `size`; it answers as before until it is trained.

    The new columns hold what the words of `source`, an encoder that `start_teacher` reads, tell beyond a linear map of
    the old ones: the leading directions of the rest. The projection starts at 0 for them. Raises ConfigError,
    NotAModel.
    """
    old = start.config.embedding_size
    if size <= old or start.config.embedding != "project_then_norm":
        raise ConfigError(f"embedding-size: more than the start's {old} and project_then_norm required, was {size}")
    teacher = start_teacher(Path(source), "natural-v3", start.config.max_positions, 0.0, 0)
    theirs = teacher.network.encoder.embeddings.word_embeddings.weight.detach()
    words = start.tensors["embedding.words"].float()
    rest = _rest(words, _rows(theirs, teacher.reader.tokenizer, start.tokenizer))
    if size - old > rest.shape[1]:
        raise ConfigError(f"embedding-size: at most {old + rest.shape[1]} with {source} required, was {size}")
    new = rest[:, : size - old]
    new *= words.std() / new.std()
    project = start.tensors["embedding.project.weight"].float()
    tensors = dict(start.tensors) | {
        "embedding.words": torch.cat([words, new], dim=1),
        "embedding.project.weight": torch.cat([project, project.new_zeros(project.shape[0], size - old)], dim=1),
    }
    return dataclasses.replace(start, config=dataclasses.replace(start.config, embedding_size=size), tensors=tensors)


def _rows(theirs: Tensor, their_tokenizer: Tokenizer, ours: Tokenizer) -> Tensor:
    """Return the other encoder's word of each of our pieces, (V, W); the mean where it has none."""
    known = their_tokenizer.pieces.get_vocab()
    found = theirs.mean(dim=0).repeat(ours.size, 1)
    for piece, row in ours.pieces.get_vocab().items():
        if piece in known:
            found[row] = theirs[known[piece]]
    return found


def _rest(words: Tensor, others: Tensor) -> Tensor:
    """Return what (V, E) words leave of (V, W) others, (V, W) along its principal directions."""
    affine = torch.cat([words, torch.ones(len(words), 1)], dim=1).double()
    rest = others.double() - affine @ torch.linalg.lstsq(affine, others.double()).solution
    _, _, directions = torch.linalg.svd(rest, full_matrices=False)
    return (rest @ directions.T).float()
