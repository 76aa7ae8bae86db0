"""Peers on transformers' own layer: plain model, pipeline and early-exit schedules.

On a CUDA device they run in bfloat16, and the host waits for each result that it needs.

The schedules: one text at a time (Case 2 of the FSA system paper), a fixed batch that waits for its deepest text (Case
4), a batch that shrinks as texts exit (FastBERT's), and the paper's Algorithm 1. Its slots are padded to the longest
text of the run, as in the paper (section IV-B), or, as a stream would need it, to the longest text allowed.
"""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from earlybird.engine.bench.clock import spent
from earlybird.engine.bench.row import BenchRow, Build, Exits, PeerResult, RowResult, Setting, batches, peer_results
from earlybird.engine.bench.workload import BenchText

BATCH = 32
SLOT_COUNTS = (4, 8, 16, 32)  # Algorithm 1 gets the fastest of these on this machine


class HuggingFace:
    """transformers' ALBERT, in eval mode with its SDPA attention."""

    peer, refilled = True, False

    def __init__(self, setting: Setting, slots: int) -> None:
        self.slots, self.dtype, self._config = slots, setting.peer_dtype, setting.config
        self._device = setting.device
        self._model = setting.models.theirs
        if setting.device.type == "cuda":
            self._model = copy.deepcopy(self._model).to(setting.device, getattr(torch, self.dtype))
        self._layer = self._model.albert.encoder.albert_layer_groups[0].albert_layers[0]
        self._exits = Exits(setting.config.layers)

    def padded(self, texts: Sequence[BenchText], width: int | None = None) -> tuple[Tensor, Tensor]:
        """Return token ids and mask, (S, width) each; width None: the longest text."""
        width = width or max(len(text.ids) for text in texts)
        ids = torch.tensor([text.ids + (0,) * (width - len(text.ids)) for text in texts])
        mask = torch.arange(width) < torch.tensor([len(text.ids) for text in texts])[:, None]
        return ids.to(self._device), mask.to(self._device)

    def embed(self, ids: Tensor) -> Tensor:
        """Compute the states before the first pass: (S, L) -> (S, L, H)."""
        albert = self._model.albert
        hidden: Tensor = albert.encoder.embedding_hidden_mapping_in(albert.embeddings(ids))
        return hidden

    def advance(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Run one pass over hidden (S, L, H); mask (S, L), or None without padding."""
        wide: Tensor = self._layer(hidden, None if mask is None else mask[:, None, None, :])
        return wide

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute logits on the host: (S, L, H) -> (S, C) float32."""
        return self.answers(hidden[:, 0]).float().cpu()

    def answers(self, first: Tensor) -> Tensor:
        """Compute logits from first tokens: (S, H) -> (S, C)."""
        model = self._model
        logits: Tensor = model.classifier(model.albert.pooler_activation(model.albert.pooler(first)))
        return logits

    def deepest(self, texts: Sequence[BenchText], logits: Tensor) -> list[PeerResult]:
        """Return the results of texts that all made every pass."""
        return peer_results(texts, [self._config.layers] * len(texts), logits.float())


class Eager(HuggingFace):
    """The plain model in batches, at full depth."""

    @torch.inference_mode()
    def run(self, texts: Sequence[BenchText]) -> Sequence[RowResult]:
        found: list[PeerResult] = []
        for batch in batches(texts, self.slots):
            ids, mask = self.padded(batch)
            found += self.deepest(batch, self.whole(ids, mask.long() if len(batch) > 1 else None))
        return found

    def whole(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Compute logits (S, C) from ids and mask (S, L)."""
        logits: Tensor = self._model(ids, attention_mask=mask).logits
        return logits


class HuggingFacePipeline(HuggingFace):
    """transformers' text-classification pipeline; its time includes tokenisation."""

    def __init__(self, setting: Setting, slots: int) -> None:
        super().__init__(setting, slots)
        from transformers import pipeline

        self._pipeline: Any = pipeline(
            "text-classification",
            model=self._model,
            tokenizer=_numbers(setting.config.vocab_size),
            device=str(setting.device),
        )

    @torch.inference_mode()
    def run(self, texts: Sequence[BenchText]) -> Sequence[RowResult]:
        lines = [" ".join(map(str, text.ids)) for text in texts]
        scored = self._pipeline(lines, batch_size=self.slots, top_k=None, function_to_apply="none")
        found = []
        for text, scores in zip(texts, scored, strict=True):
            by_label = {score["label"]: score["score"] for score in scores}
            logits = tuple(by_label[f"LABEL_{number}"] for number in range(len(by_label)))
            found.append(PeerResult(text.ticket, self._config.layers, logits))
        return found


class BatchExits(HuggingFace):
    """Early exits in whole batches; each text's result is that of its depth.

    `shrink`: texts that have exited are not computed further.
    """

    def __init__(self, setting: Setting, slots: int, shrink: bool) -> None:
        super().__init__(setting, slots)
        self._shrink = shrink

    @torch.inference_mode()
    def run(self, texts: Sequence[BenchText]) -> Sequence[RowResult]:
        return [answer for batch in batches(texts, self.slots) for answer in self._batch(batch)]

    def _batch(self, batch: Sequence[BenchText]) -> list[PeerResult]:
        ids, padding = self.padded(batch)
        mask = padding if len(batch) > 1 else None
        hidden, state, found = self.embed(ids), self._exits.initial_state(len(batch)), list[PeerResult]()
        open_ = set(range(len(batch)))  # positions in the original batch
        places = list(range(len(batch)))
        for depth in range(1, self._config.layers + 1):
            hidden = self.advance(hidden, mask)
            logits = self.logits(hidden)
            leaving, state = self._exits.test([batch[place] for place in places], logits, [depth] * len(places), state)
            gone = [row for row, place in enumerate(places) if leaving[row] and place in open_]
            found += peer_results([batch[places[row]] for row in gone], [depth] * len(gone), logits[gone])
            open_ -= {places[row] for row in gone}
            if not open_:
                break
            if self._shrink and gone:
                keep = torch.tensor([row for row, leaves in enumerate(leaving) if not leaves])
                places = [places[row] for row in keep.tolist()]
                hidden, state = hidden[keep], tuple(memory[keep] for memory in state)
                mask = None if mask is None else mask[keep]
        return found


class AlgorithmOne(HuggingFace):
    """Padded slots of one width that are refilled as they fall free.

    The width is that of the run's longest text or, for a `stream`, of the longest text allowed. Faster than printed in
    one point: slots without a text are not computed.
    """

    refilled = True

    def __init__(self, setting: Setting, slots: int | None = None, stream: bool = False) -> None:
        super().__init__(setting, slots or 1)
        self._allowed = setting.config.max_positions if stream else 0
        self._choose = slots is None

    @torch.inference_mode()
    def run(self, texts: Sequence[BenchText]) -> Sequence[RowResult]:
        width = self._allowed or max(len(text.ids) for text in texts)
        if self._choose:
            self._choose, self.slots = False, self._best(texts, width)
        waiting, found = list(reversed(texts)), list[PeerResult]()
        inside, depths = list[BenchText](), list[int]()
        hidden, mask, state = torch.empty(0), torch.empty(0), self._exits.initial_state(0)
        while waiting or inside:
            new_texts = [waiting.pop() for _ in range(min(len(waiting), self.slots - len(inside)))]
            if new_texts:
                ids, real = self.padded(new_texts, width)
                added, memory = self.embed(ids), self._exits.initial_state(len(new_texts))
                hidden = torch.cat([hidden, added]) if inside else added
                mask = torch.cat([mask, real]) if inside else real
                state = tuple(map(torch.cat, zip(state, memory, strict=True))) if inside else memory
                inside, depths = inside + new_texts, depths + [0] * len(new_texts)
            hidden, depths = self.advance(hidden, mask), [depth + 1 for depth in depths]
            logits = self.logits(hidden)
            leaving, state = self._exits.test(inside, logits, depths, state)
            gone = [row for row, leaves in enumerate(leaving) if leaves]
            if gone:
                found += peer_results([inside[row] for row in gone], [depths[row] for row in gone], logits[gone])
                rows = [row for row, leaves in enumerate(leaving) if not leaves]
                keep = torch.tensor(rows, dtype=torch.int64)
                hidden, mask, state = hidden[keep], mask[keep], tuple(memory[keep] for memory in state)
                inside, depths = [inside[row] for row in rows], [depths[row] for row in rows]
        return found

    def _best(self, texts: Sequence[BenchText], width: int) -> int:
        """Return the slot count with the least time per slot and pass.

        Each count is measured with all slots filled.
        """
        costs = {}
        for count in SLOT_COUNTS:
            ids, mask = self.padded((list(texts) * count)[:count], width)
            hidden = self.embed(ids)
            costs[count] = spent(partial(self.advance, hidden, mask), device=self._device) / count
        return min(costs, key=lambda count: costs[count])


def _numbers(vocab_size: int) -> Any:
    """Build a tokenizer for texts that are token ids in decimal."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    pad, unknown = "[PAD]", "[UNK]"
    words = {pad: 0, unknown: 1} | {str(number): number for number in range(2, vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    library: Any = transformers
    return library.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, unk_token=unknown)


def row(kind: type[HuggingFace], *arguments: Any) -> Build:
    """Return a function that builds the row."""

    def build(setting: Setting) -> BenchRow:
        made: Any = kind(setting, *arguments)
        checked: BenchRow = made
        return checked

    return build


ROWS: dict[str, Build] = {
    "hf_batch1": row(Eager, 1),
    "hf_batch32": row(Eager, BATCH),
    "hf_pipeline_batch1": row(HuggingFacePipeline, 1),
    "hf_pipeline_batch32": row(HuggingFacePipeline, BATCH),
    "hf_exit_batch1": row(BatchExits, 1, True),
    "hf_exit_batch32_together": row(BatchExits, BATCH, False),
    "hf_exit_batch32_shrinking": row(BatchExits, BATCH, True),
    "algorithm1": row(AlgorithmOne),
    "algorithm1_stream": row(AlgorithmOne, None, True),
}
