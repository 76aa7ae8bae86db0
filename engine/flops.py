"""Operation counts per text: multiplications and additions, from the model's sizes alone."""

from earlybird.engine.config import ModelConfig


def flops(config: ModelConfig, length: int, depth: int) -> float:
    """Count the operations of one text of `length` tokens over `depth` passes.

    Covers linear maps, attention, adapters, and an output of the heads after every pass.
    """
    hidden, ffn = config.hidden_size, config.ffn_size
    layer = length * (2 * (4 * hidden * hidden + 2 * hidden * ffn) + 4 * length * hidden)
    if config.adapters:
        rank = config.adapters.rank
        inner = {"identity": 0, "attention": 4 * rank + 2 * length, "convolution": rank, "mlp": rank}
        layer += length * 2 * rank * (2 * hidden + inner[config.adapters.module])
    pooler = hidden if config.pool == "first" else 0  # mean pooling has no map
    learned = 0 if config.learned_exits == "none" else 1
    head = 2 * hidden * (pooler + config.n_labels + learned)
    return length * 2 * config.embedding_size * hidden + depth * (layer + head)
