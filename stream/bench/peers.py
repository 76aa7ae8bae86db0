"""Other consumers for comparison: bare client, Faust agent, transformers pipeline.

The pipeline runs in a consumer loop. It and the agent run as processes of their own:

    python -m earlybird.stream.bench.peers faust|pipeline --bootstrap ... --raw ... --signals ... --count ...

Last line on stdout: texts, wall_s and cpu_s of the process, counted from the first record.
"""

import argparse
import importlib
import json
import os
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer

from earlybird.stream.adapters.options import consumer_options, producer_options
from earlybird.stream.config.client_options import KafkaEndpoint

PATIENCE_S = 60.0


def consume(endpoint: KafkaEndpoint, topic: str, count: int) -> tuple[int, float]:
    """Return the number of records and the CPU seconds of consume(500) without processing.

    This is the upper bound for any Python consumer.
    """
    consumer = _consumer(endpoint, topic)
    first = len(_messages(consumer, 500))
    texts, start_s = first, time.process_time()
    while texts < count and (messages := _messages(consumer, 500)):
        texts += len(messages)
    cpu_s = time.process_time() - start_s
    consumer.close()
    return texts - first, cpu_s


def pipeline(endpoint: KafkaEndpoint, raw: str, signals: str, count: int, batch: int, threads: int) -> None:
    """Run transformers' pipeline over an ALBERT of the bundled model's size with random weights.

    Batch 1 is how most first scripts look; larger batches are its faster form.
    """
    import torch

    transformers: Any = importlib.import_module("transformers")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    folder = Path(__file__).parents[2] / "engine" / "assets" / "elbert-mini"
    size = json.loads((folder / "manifest.json").read_text())["geometry"]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]", model_max_length=size["max_positions"]
    )
    config = transformers.AlbertConfig(
        vocab_size=size["vocab_size"],
        embedding_size=size["embedding_size"],
        hidden_size=size["hidden_size"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        intermediate_size=size["ffn_size"],
        max_position_embeddings=size["max_positions"],
        num_labels=size["n_labels"],
    )
    model = transformers.AlbertForSequenceClassification(config).eval()
    classify = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    consumer = _consumer(endpoint, raw)
    producer = Producer(producer_options(endpoint))
    watch = _Watch()
    while watch.texts < count:
        items = [json.loads(message.value() or b"{}") for message in _messages(consumer, batch)]
        texts = [item.get("headline") or item.get("text") or "" for item in items]
        for item, result in zip(items, classify(texts, batch_size=batch, truncation=True), strict=True):
            producer.produce(signals, json.dumps({"item_key": item["item_key"], **result}).encode(), item["item_key"])
        producer.poll(0)
        consumer.commit(asynchronous=True)
        watch.count(len(items))
    producer.flush(10)
    print(watch.report(), flush=True)
    os._exit(0)


def faust(bootstrap_servers: str, raw: str, signals: str, count: int) -> None:
    """Run a Faust agent that sends one JSON record per record read, without a model."""
    library: Any = importlib.import_module("faust")

    class Item(library.Record, serializer="json"):  # type: ignore[misc, call-arg, unused-ignore]
        item_key: str
        ingested_us: int
        headline: str | None = None
        text: str | None = None

    app = library.App(
        f"bench-{uuid.uuid4().hex[:8]}",
        broker=[f"kafka://{address}" for address in bootstrap_servers.split(",")],
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        web_enabled=False,
    )
    source, out, watch = app.topic(raw, value_type=Item), app.topic(signals, value_serializer="json"), _Watch()

    async def agent(stream: Any) -> None:
        async for item in stream:
            await out.send(key=item.item_key, value={"item_key": item.item_key, "label": "neutral"})
            watch.count(1)
            if watch.texts >= count:
                os.write(1, f"{watch.report()}\n".encode())
                os._exit(0)

    app.agent(source)(agent)
    library.Worker(app, loglevel="error", quiet=True, redirect_stdouts=False).execute_from_commandline()


class _Watch:
    """Counter of texts, wall time and CPU time from the first batch on.

    Joining the group and building the model are not part of the rate.
    """

    def __init__(self) -> None:
        self.texts = 0
        self._first = 0
        self._start = (0.0, 0.0)

    def count(self, texts: int) -> None:
        self.texts += texts
        if not self._first:
            self._first, self._start = self.texts, (time.perf_counter(), time.process_time())

    def report(self) -> str:
        wall_s, cpu_s = self._start
        return json.dumps(
            {
                "texts": self.texts - self._first,
                "wall_s": time.perf_counter() - wall_s,
                "cpu_s": time.process_time() - cpu_s,
            }
        )


def _consumer(endpoint: KafkaEndpoint, topic: str) -> Consumer:
    settings = consumer_options(endpoint, f"bench-{uuid.uuid4().hex[:8]}", "classic")
    consumer = Consumer(settings | {"auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    return consumer


def _messages(consumer: Consumer, most: int) -> list[Any]:
    """Return at least one message, or an empty list after 60 s without any."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        messages = [message for message in consumer.consume(most, 0.05) if message.error() is None]
        if messages:
            return messages
    return []


def main() -> None:
    """Run the chosen peer."""
    parser = argparse.ArgumentParser(prog="python -m earlybird.stream.bench.peers", description=__doc__)
    parser.add_argument("peer", choices=["faust", "pipeline"])
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--batch", type=int, default=32, help="of the pipeline")
    parser.add_argument("--threads", type=int, default=1, help="torch's, in the pipeline")
    for name in ("bootstrap", "raw", "signals"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if args.peer == "faust":
        faust(args.bootstrap, args.raw, args.signals, args.count)
    else:
        pipeline(
            KafkaEndpoint(args.bootstrap, args.options), args.raw, args.signals, args.count, args.batch, args.threads
        )


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
