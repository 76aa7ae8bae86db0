"""What a text costs: multiplications and additions, from the sizes of the model alone."""

from earlybird.engine.config import ModelConfig


def flops(config: ModelConfig, length: int, depth: int) -> float:
    """Operations that one text of `length` tokens needs for `depth` passes: its maps, its attention, its adapters, and
    an output of the heads after every pass."""
    hidden, ffn = config.hidden_size, config.ffn_size
    layer = length * (2 * (4 * hidden * hidden + 2 * hidden * ffn) + 4 * length * hidden)
    if config.adapters:
        rank = config.adapters.rank
        inner = {"identity": 0, "attention": 4 * rank + 2 * length, "convolution": rank, "mlp": rank}
        layer += length * 2 * rank * (2 * hidden + inner[config.adapters.module])
    pooler = hidden if config.pool == "first" else 0  # a mean has none
    learned = 0 if config.learned_exits == "none" else 1
    head = 2 * hidden * (pooler + config.n_labels + learned)
    return length * 2 * config.embedding_size * hidden + depth * (layer + head)
