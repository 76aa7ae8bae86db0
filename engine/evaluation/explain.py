"""Explanation of one text, pass by pass: label probabilities, exit distance and attention.

Letters: t tokens, H hidden size, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from earlybird.engine.engine import Engine
from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.any_of import AnyOf
from earlybird.engine.exits.cwb import ConfidenceWindow
from earlybird.engine.exits.patience import Patience
from earlybird.engine.exits.policy import (
    REASONS,
    ClassifierOutput,
    ExitPolicy,
    State,
    at_last_layer,
    classifier_output,
)
from earlybird.engine.exits.similarity import Similarity
from earlybird.engine.temperatures import reported
from earlybird.engine.text.assembly import Text


@dataclass(frozen=True, slots=True)
class Pass:
    """Results of one pass."""

    layer: int
    probs: tuple[float, ...]  # negative, neutral, positive
    label: str
    entropy: float  # normalised, ELBERT's puzzlement
    distance: float  # of the exit decision from another one, see ExitPolicy.distance_to_flip
    window: str  # what the policy has counted in a row, of what it needs, as "1/2"; empty: it counts nothing
    exits: bool  # the policy exits here (later passes are computed for comparison)
    reason: str  # exit reason; empty elsewhere
    attention: tuple[float, ...]  # per word, summed over the passes so far; sums to 1


@dataclass(frozen=True, slots=True)
class Explanation:
    """Results of a text after every pass."""

    text: str  # as the model reads it: cleaned and assembled
    words: tuple[str, ...]
    policy: str
    pooling: str
    exit_layer: int
    passes: tuple[Pass, ...]
    reported: tuple[float, ...] | None = None  # what a signal says, where temperatures were fitted for the policy


@torch.inference_mode()
def explain(engine: Engine, text: str) -> Explanation:
    """Run a text through every pass, past its exit.

    Raises ConfigError where cleaning leaves nothing to read.

    Attention per word is that of the first token where the model pools the first token, else the mean over all tokens
    as queries. It is averaged over heads and summed over the passes so far, as in Figures 8 and 9 of the FSA system
    paper.
    """
    (encoded,) = engine.encoder.encode([Text((text,))])
    if encoded is None:
        raise ConfigError("text: something that the model can read required, was nothing after cleaning")
    cleaned, _ = engine.encoder.assemble(Text((text,)))
    words, pieces = _words(engine, cleaned, len(encoded.token_ids))
    model, policy, lengths = engine.model, engine.policy, [len(encoded.token_ids)]
    hidden = model.embed(torch.tensor(encoded.token_ids), lengths)
    said: tuple[float, ...] | None = None
    total, state, exit_layer, passes = torch.zeros(len(words)), None, 0, list[Pass]()
    for layer in range(1, engine.max_layers + 1):
        total += _per_word(_attention(engine, hidden, layer), pieces, len(words))
        hidden = model.advance(hidden, lengths, [layer])
        output = classifier_output(model.classify(hidden, lengths, [layer]))
        state = policy.initial_state(1, output.logits[:0]) if state is None else state
        depth = torch.tensor([layer])
        distance = policy.distance_to_flip(output, depth, state)
        decision = at_last_layer(policy.decide(output, depth, state), depth, engine.max_layers)
        state = decision.state
        exits = bool(decision.leaving) and not exit_layer
        exit_layer = layer if exits else exit_layer
        if exits and engine.temperatures is not None:
            said = tuple(reported(output.logits, engine.temperatures, depth)[0].tolist())
        passes.append(
            Pass(
                layer,
                tuple(output.probs[0].tolist()),
                engine.labels[int(output.label)],
                float(output.entropy),
                float(distance),
                _window(policy, output, state),
                exits,
                REASONS[int(decision.reason)].value if exits else "",
                tuple((total / total.sum().clamp_min(1e-12)).tolist()),
            )
        )
    pooling = engine.checkpoint.config.pool
    return Explanation(cleaned, tuple(words), policy.spec, pooling, exit_layer, tuple(passes), said)


def _window(policy: ExitPolicy, output: ClassifierOutput, state: State) -> str:
    """Return the count that a policy's state holds, of the count that it needs."""
    if isinstance(policy, AnyOf):
        return " | ".join(filter(None, (_window(each, output, part) for each, part in policy.parts(output, state))))
    if isinstance(policy, ConfidenceWindow) and policy.window and policy.criterion != "range":
        return f"{min(int(state[-1]), policy.window)}/{policy.window}"
    if isinstance(policy, Patience) or (isinstance(policy, Similarity) and policy.version < 3):
        return f"{min(int(state[-1]), policy.count)}/{policy.count}"
    return ""


def _attention(engine: Engine, hidden: Tensor, depth: int) -> Tensor:
    """Compute the attention of pass `depth` to every token (t,), from the states before it.

    Uses the plain formula.
    """
    model, config = engine.model, engine.checkpoint.config
    size = config.hidden_size // config.heads
    triples = model.layer(depth).query_key_value(hidden).view(-1, 3, config.heads, size)
    query, key, _ = triples.unbind(dim=1)  # each (t, heads, size)
    weights = (torch.einsum("qhs,khs->hqk", query, key) / size**0.5).softmax(dim=-1).mean(dim=0)  # (t, t)
    found: Tensor = weights[0] if config.pool == "first" else weights.mean(dim=0)
    return found


def _words(engine: Engine, text: str, n_tokens: int) -> tuple[list[str], list[int]]:
    """Split a cleaned text into words; return them and each token's word.

    The word of a special token is -1 (none).
    """
    encoding = engine.encoder.tokenizer.pieces.encode(text)
    owners = [-1 if word is None else word for word in encoding.word_ids[:n_tokens]]
    spans: dict[int, tuple[int, int]] = {}
    for owner, (start, stop) in zip(owners, encoding.offsets, strict=False):
        if owner >= 0:
            first = spans.get(owner, (start, stop))[0]
            spans[owner] = (first, stop)
    numbers = {owner: place for place, owner in enumerate(spans)}
    return [text[start:stop] for start, stop in spans.values()], [numbers.get(owner, -1) for owner in owners]


def _per_word(attention: Tensor, owners: Sequence[int], words: int) -> Tensor:
    """Sum the tokens' shares by word (words,), without special tokens."""
    index = torch.tensor(owners)
    mine = index >= 0
    return torch.zeros(words).index_add_(0, index[mine], attention[: len(index)][mine].float())


def runs(explanation: Explanation) -> list[tuple[str, int, int]]:
    """Group consecutive passes with one label: (label, first layer, last layer)."""
    found = []
    for label, group in groupby(explanation.passes, key=lambda each: each.label):
        layers = [each.layer for each in group]
        found.append((label, layers[0], layers[-1]))
    return found
