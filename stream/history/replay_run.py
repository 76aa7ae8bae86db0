"""One replay from its options to its manifest: plan, play, account for it. Composes what `earlybird replay` runs."""

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import structlog

from schemas.rejection import Rejection
from schemas.signal import Novelty, Signal
from stream.cli import version
from stream.errors import SettingsError, SourceError
from stream.history.archive import ArchiveHistory
from stream.history.availability import Constant, Latency, Rule
from stream.history.compare import Comparison
from stream.history.replay import (
    Plan,
    Player,
    Spans,
    measured_latency,
    play_recorded,
    raw_history,
    read_plan,
    recorded_haste,
)
from stream.history.replay_output import Format, LinesOutput, Output, TableOutput, TopicOutput, write_json
from stream.history.timeline import SLACK_US, History, Pace, Window, parse_bounds
from stream.instants import duration_us
from stream.settings import Settings

log = structlog.get_logger(__name__)

MANIFEST = "manifest.json"
WORK = ".replay"


@dataclass(frozen=True, slots=True)
class Options:
    """What a user asks of a replay, as words; defaults are those of the command."""

    output: Path  # a folder
    mode: Literal["recorded", "recompute"] = "recorded"
    form: Format = "parquet"
    topic: str | None = None  # for form topic
    archive: Path | None = None  # None: the broker's topics
    start: Sequence[str] = ()
    end: Sequence[str] = ()
    slack: str | None = None
    rule: Rule = "auto"
    latency: str = "0"
    order: Literal["available", "event"] = "available"
    speed: float | None = None
    compare: bool = False
    strict: bool = False
    resume: bool = False
    run_id: str | None = None


def history_of(settings: Settings, options: Options) -> History:
    """Where the history is."""
    if options.archive is not None:
        return ArchiveHistory(options.archive)
    from stream.adapters.topic_range import TopicHistory

    return TopicHistory(settings.kafka.bootstrap_servers, settings.kafka.options)


def plan_of(settings: Settings, options: Options, history: History) -> Plan:
    """Freeze what is to be replayed. Raises SettingsError, SourceError."""
    _check(settings, options)
    work = options.output / WORK / "plan.json"
    if options.resume:
        plan = read_plan(work)
        wanted = (options.mode, _source(settings, options), options.rule, options.latency, options.order)
        if wanted != (plan.mode, plan.source, plan.rule, plan.latency, plan.order):
            raise SettingsError(f"{options.output}: was begun with other options: {plan.content()}")
        return plan
    for name in (options.output / MANIFEST, work):
        if name.exists():
            raise SettingsError(f"{name}: a replay is there already; --resume it, or use another --output")
    if options.topic is not None:
        from stream.adapters.replay_topic import refuse_used

        refuse_used(settings.kafka.bootstrap_servers, options.topic, settings.kafka.options)
    window = _window(options)
    topics = settings.topics
    raw, signals = [topic.name for topic in topics.raw], [topics.signals]
    recompute, whole = options.mode == "recompute", options.compare or options.latency == "empirical"
    # Outcomes come after their texts, so those before the window need not be read; how long after, nobody knows.
    after = Window() if whole else Window(window.start_us, None, window.slack_us)
    return Plan(
        options.mode,
        options.run_id or f"replay-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:6]}",
        _source(settings, options),
        window,
        history.spans(raw if recompute else signals, window),
        history.spans(signals, Window()) if whole else _there(history, signals, after) if recompute else {},
        options.rule,
        options.latency,
        options.order,
        _there(history, [topics.dlq], after) if recompute else {},
    )


def _there(history: History, topics: Sequence[str], window: Window) -> Spans:
    """Their spans; none of a topic that is not there: no archive had dead letters once, and a raw topic may be all."""
    try:
        return history.spans(topics, window)
    except SourceError as error:
        log.info("replay.no_record", reason=str(error))
        return {}


def run_replay(
    settings: Settings, options: Options, history: History, plan: Plan, progress: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Play it; the manifest, which is in the output folder, too. Raises EngineError, StreamError."""
    work = options.output / WORK
    work.mkdir(parents=True, exist_ok=True)
    if options.resume:
        return _play(settings, options, history, plan, progress)
    write_json(work / "plan.json", plan.content())
    try:
        return _play(settings, options, history, plan, progress)
    except SettingsError:  # refused: there is nothing to resume
        shutil.rmtree(work)
        raise


def _play(
    settings: Settings, options: Options, history: History, plan: Plan, progress: Callable[[int], None]
) -> dict[str, Any]:
    latency: Latency = (
        measured_latency(plan, history)
        if plan.latency == "empirical"
        else Constant(duration_us(plan.latency, "--latency"))
    )
    output = _output(settings, options, plan)
    player = Player(plan, output, latency, Pace(options.speed), options.strict, progress=progress)
    if plan.order == "event":
        if options.strict:
            raise SettingsError("--order event looks ahead: texts come before they were available; --strict refuses")
        log.warning("replay.looks_ahead", order="event", hint="texts come before they were available")
    about: dict[str, Any] = {}
    if plan.mode == "recorded":
        play_recorded(plan, history, player)
    else:
        about = _recompute(settings, options, history, plan, player)
    manifest = _manifest(plan, player, latency, output.close()) | about
    write_json(options.output / MANIFEST, manifest)
    if options.topic is not None:
        from stream.adapters.replay_topic import announce_end

        kafka = settings.kafka
        announce_end(kafka.bootstrap_servers, options.topic, plan.run_id, player.account, kafka.options)
    shutil.rmtree(options.output / WORK)
    return manifest


def _recompute(settings: Settings, options: Options, history: History, plan: Plan, player: Player) -> dict[str, Any]:
    import torch

    from stream.history.recompute import Repeats, Verdicts, recompute
    from stream.service import load_engine

    torch.set_num_threads(1)  # parallel over texts, as in the live stage
    engine = load_engine(settings)
    if options.strict and engine.knowledge_until_us is None:
        player.begins(0, None)
    comparison = Comparison(settings.engine.deterministic) if options.compare else None
    haste = recorded_haste(plan, history, None if comparison is None else comparison.record)
    repeats = Repeats(settings.redis.ttl_s * 1_000_000)

    def novelty(signal: Signal, text_key: str) -> Signal:
        said: Novelty | None = None
        if signal.label is not None:
            said = repeats.novelty(text_key, signal.item_key, signal.ts.ingested_us)
        return signal.model_copy(update={"novelty": said})

    player.recomputed = novelty
    records = raw_history(plan, history)
    first = next(records, None)
    if first is not None:
        player.begins(first.dated.at_us, engine.knowledge_until_us)
        records = chain([first], records)
    verdicts = Verdicts(options.output / WORK / "verdicts")
    rejections = (options.output / "rejections.jsonl").open("wb")
    try:
        player.rejected = lambda rejection: _write_rejection(rejections, rejection)
        recompute(plan, records, player, engine, settings, verdicts, haste, comparison)
    finally:
        rejections.close()
        verdicts.close()
    return {
        "deterministic": settings.engine.deterministic,
        "verdicts_resumed": verdicts.resumed,
        "recorded_deadlines": len(haste.depths),
        "recorded_shed": len(haste.shed),
        **({} if comparison is None else {"comparison": comparison.report()}),
    }


def _manifest(plan: Plan, player: Player, latency: Latency, output: dict[str, Any]) -> dict[str, Any]:
    account = player.account
    return {
        "schema": "replay/1",
        **plan.content(),
        "latency": latency.spec,
        "look_ahead": plan.order == "event",
        "in_sample": player.in_sample is not None,
        "in_sample_reason": player.in_sample,
        "edited_history_dated_by_update": player.edited,
        "signals_over_an_hour_behind": player.behind,
        "ingest_times_assumed": player.assumed if plan.mode == "recompute" else None,
        "models": list(account.models.values()),
        "counts": account.report(),
        "output": output,
        "code_version": version(),
    }


def _write_rejection(file: Any, rejection: Rejection) -> None:
    file.write(rejection.model_dump_json().encode() + b"\n")


def _output(settings: Settings, options: Options, plan: Plan) -> Output:
    if options.form == "topic":
        assert options.topic is not None
        from stream.adapters.replay_topic import open_topic, published_ids

        kafka = settings.kafka
        known = (
            published_ids(kafka.bootstrap_servers, options.topic, plan.run_id, kafka.options) if options.resume else ()
        )
        return TopicOutput(open_topic(kafka.bootstrap_servers, options.topic, kafka.options), options.topic, known)
    if options.form == "jsonl":
        return LinesOutput(options.output)
    return TableOutput(options.output, options.form, {"run_id": plan.run_id, "plan_sha256": _plan_sha256(plan)})


def _check(settings: Settings, options: Options) -> None:
    topics = settings.topics
    live = {*(topic.name for topic in topics.raw), topics.signals, topics.control, topics.dlq}
    if (options.form == "topic") != (options.topic is not None):
        raise SettingsError("--format topic and --topic NAME go together")
    if options.topic is not None and not live.isdisjoint((options.topic, f"{options.topic}.control")):
        raise SettingsError(f"--topic: a topic of the live stage is never written to, was {options.topic}")
    if options.latency != "empirical":
        duration_us(options.latency, "--latency")
    elif options.mode == "recorded" and options.rule != "ingested":
        raise SettingsError("--latency empirical: the broker's append time holds the latency already")
    if options.compare and options.mode == "recorded":
        raise SettingsError("--compare: recorded signals are the record; use it with recompute")


def _window(options: Options) -> Window:
    now_us = time.time_ns() // 1000
    start_us, first = parse_bounds(options.start, now_us, "--from")
    end_us, last = parse_bounds(options.end, now_us, "--to")
    if start_us is not None and end_us is not None and start_us >= end_us:
        raise SettingsError(f"--from must be before --to, was {start_us} and {end_us}")
    slack_us: int | None = SLACK_US
    if options.slack is not None:
        slack_us = None if options.slack == "all" else duration_us(options.slack, "--slack")
    elif options.rule == "ingested" and options.mode == "recorded":
        slack_us = None  # the order in which a backlog was worked off says nothing of when its texts were known
    return Window(start_us, end_us, slack_us, options.rule != "ingested", first, last)


def _source(settings: Settings, options: Options) -> str:
    return settings.kafka.bootstrap_servers if options.archive is None else str(options.archive.resolve())


def _plan_sha256(plan: Plan) -> str:
    content = {name: value for name, value in plan.content().items() if name not in ("run_id", "source")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
