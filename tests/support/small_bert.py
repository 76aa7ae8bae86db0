"""A random BERT beside the bundled tokenizer, as the tests of teachers start from."""

import shutil
from pathlib import Path
from typing import Any

import torch

from earlybird.engine.engine import BUNDLED_FOLDER


def save_bert(folder: Path, **sizes: int) -> Path:
    """Save a BertModel of one head without a pooler; `sizes` are fields of BertConfig."""
    import transformers

    library: Any = transformers
    torch.manual_seed(1)
    config = library.BertConfig(vocab_size=14_000, num_attention_heads=1, max_position_embeddings=80, **sizes)
    library.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    shutil.copy(BUNDLED_FOLDER / "tokenizer.json", folder)
    return folder
