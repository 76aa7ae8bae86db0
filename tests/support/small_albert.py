"""A small Hugging Face ALBERT with random weights and a tokenizer of whole words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AlbertConfig, AlbertForSequenceClassification, PreTrainedTokenizerFast

WORDS = ("<pad>", "<unk>", "[CLS]", "[SEP]", "firm", "cuts", "names", "lifts", "outlook")
SIZES: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 16, "initializer_range": 0.3,
}  # fmt: skip


def save_tokenizer(folder: Path, words: Sequence[str] = WORDS) -> None:
    """Save a tokenizer of these words, of which the first four are special."""
    pieces = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=pieces, unk_token="<unk>", pad_token="<pad>", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)


def save_albert(folder: Path, seed: int = 0, labels: tuple[str, ...] = ("Positive", "negative", "neutral")) -> Path:
    """Save one whose labels are in this order, which is not ours."""
    torch.manual_seed(seed)
    config = AlbertConfig(vocab_size=len(WORDS), embedding_size=8, id2label=dict(enumerate(labels)), **SIZES)
    AlbertForSequenceClassification(config).eval().save_pretrained(folder)
    save_tokenizer(folder)
    return folder
