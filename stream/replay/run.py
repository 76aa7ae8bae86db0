"""Runs one replay from its options to its manifest, for `earlybird replay`."""

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import structlog

from earlybird.schemas.signal import Novelty, Signal
from earlybird.stream.archive.reader import ArchiveHistory
from earlybird.stream.config.settings import Settings
from earlybird.stream.errors import SettingsError, SourceError
from earlybird.stream.ports import Record
from earlybird.stream.replay.compare import Comparison
from earlybird.stream.replay.manifest import manifest_of
from earlybird.stream.replay.outputs import Format, LinesFile, LinesOutput, Output, TableOutput, TopicOutput, write_json
from earlybird.stream.replay.player import (
    Plan,
    Player,
    Spans,
    measured_latency,
    play_recorded,
    raw_history,
    read_plan,
    recorded_lateness,
)
from earlybird.stream.replay.recorded import report_cut
from earlybird.stream.stage.stage import reader_of
from earlybird.stream.timeline.availability import Constant, Latency, Rule
from earlybird.stream.timeline.instants import duration_us
from earlybird.stream.timeline.knowledge import UNKNOWN
from earlybird.stream.timeline.merge import SLACK_US, History, Pace, Window, parse_window

log = structlog.get_logger(__name__)

MANIFEST = "manifest.json"
WORK = ".replay"
REJECTIONS = "rejections.jsonl"
DIFFERENCES = "comparison.jsonl"


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a replay as a user writes them; defaults are the command's."""

    output: Path  # a folder
    mode: Literal["recorded", "recompute"] = "recorded"
    form: Format = "parquet"
    topic: str | None = None  # for form topic
    archive: Path | None = None  # None: the broker's topics
    start: Sequence[str] = ()
    end: Sequence[str] = ()
    slack: str | None = None
    rule: Rule = "auto"
    latency: str | None = None  # None: 0, with a warning where it matters
    order: Literal["available", "event"] = "available"
    speed: float | None = None
    compare: bool = False
    strict: bool = False
    resume: bool = False
    run_id: str | None = None


def history_of(settings: Settings, options: Options) -> History:
    """Return the history: an archive, or the broker's topics."""
    if options.archive is not None:
        return ArchiveHistory(options.archive)
    from earlybird.stream.adapters.topic_range import TopicHistory

    return TopicHistory(settings.kafka.endpoint)


def plan_of(settings: Settings, options: Options, history: History) -> Plan:
    """Freeze the scope of the replay; raises SettingsError, SourceError."""
    _check(settings, options)
    work = options.output / WORK / "plan.json"
    if options.resume:
        plan = read_plan(work)
        wanted = (options.mode, _source(settings, options), options.rule, options.latency or "0", options.order)
        if wanted != (plan.mode, plan.source, plan.rule, plan.latency, plan.order):
            raise SettingsError(f"{options.output}: was begun with other options: {plan.content()}")
        return plan
    for name in (options.output / MANIFEST, work):
        if name.exists():
            raise SettingsError(f"{name}: a replay is there already; --resume it, or use another --output")
    if options.topic is not None:
        from earlybird.stream.replay.topic import refuse_used

        refuse_used(settings.kafka.endpoint, options.topic)
    window = _window(options)
    topics = settings.topics
    raw, signals = [topic.name for topic in topics.raw], [topics.signals]
    played = raw if options.mode == "recompute" else signals
    cut = history.cut(played, window)
    report_cut(cut, SettingsError if options.strict else None)
    recompute, whole = options.mode == "recompute", options.compare or options.latency == "empirical"
    # Outcomes follow their texts: none from before the window is needed, and their delay has no upper bound.
    after = Window() if whole else Window(window.start_us, None, window.slack_us)
    return Plan(
        options.mode,
        options.run_id or f"replay-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:6]}",
        _source(settings, options),
        window,
        history.spans(played, window),
        history.spans(signals, Window()) if whole else _spans_if_any(history, signals, after) if recompute else {},
        options.rule,
        options.latency or "0",
        options.order,
        _spans_if_any(history, [topics.dlq], after) if recompute else {},
        cut,
    )


def _spans_if_any(history: History, topics: Sequence[str], window: Window) -> Spans:
    """Return the topics' spans; none for a missing topic.

    Old archives have no dead letters, and a history may hold raw topics alone.
    """
    try:
        return history.spans(topics, window)
    except SourceError as error:
        log.info("replay.no_record", reason=str(error))
        return {}


def run_replay(
    settings: Settings, options: Options, history: History, plan: Plan, progress: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Run a planned replay; return the manifest, which is also in the output folder.

    Raises EngineError, StreamError.
    """
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
    if options.latency is None and (plan.mode == "recompute" or plan.rule == "ingested"):
        log.warning("replay.no_latency", hint="signals come the instant their texts were available; see --latency")
    about: dict[str, Any] = {}
    if plan.mode == "recorded":
        play_recorded(plan, history, player)
    else:
        about = _recompute(settings, options, history, plan, player)
    manifest = manifest_of(plan, player, latency.spec, output.close(), chosen=options.latency is not None) | about
    write_json(options.output / MANIFEST, manifest)
    if options.topic is not None:
        from earlybird.stream.replay.topic import announce_end

        announce_end(settings.kafka.endpoint, options.topic, plan.run_id, player.summary)
    shutil.rmtree(options.output / WORK)
    return manifest


def _recompute(settings: Settings, options: Options, history: History, plan: Plan, player: Player) -> dict[str, Any]:
    import torch

    from earlybird.stream.replay.recompute import DuplicateTimeline, VerdictLog, recompute
    from earlybird.stream.service import load_engine

    torch.set_num_threads(1)  # the parallelism is over texts, as in the live stage
    engine = load_engine(settings)
    if options.strict and engine.knowledge_until_us is None:
        player.in_sample.report(engine.model_id, UNKNOWN)
    differences = LinesFile(options.output / DIFFERENCES) if options.compare else None
    comparison = Comparison(settings.engine.deterministic, differences.write) if differences is not None else None

    def record(stamped: Record, signal: Signal) -> None:
        player.measure(stamped, signal)
        if comparison is not None:
            comparison.record(signal)

    lateness = recorded_lateness(plan, history, record, engine.rungs)
    duplicates = DuplicateTimeline(settings.redis.ttl_s * 1_000_000)

    def novelty(signal: Signal, text_key: str) -> Signal:
        novelty: Novelty | None = None
        if signal.label is not None:
            novelty = duplicates.novelty(text_key, signal.item_key, signal.ts.ingested_us)
        signal = signal.model_copy(update={"novelty": novelty})
        if comparison is not None:
            comparison.add(signal)
        return signal

    player.recomputed = novelty
    verdict_log = VerdictLog(options.output / WORK / "verdicts")
    rejections = LinesFile(options.output / REJECTIONS)
    try:
        player.rejected = lambda rejection: rejections.write(rejection.model_dump(mode="json"))
        records = raw_history(plan, history, reader_of(settings).times)
        recompute(plan, records, player, engine, settings, verdict_log, lateness, comparison)
    finally:
        rejections.close()
        verdict_log.close()
        if comparison is not None and differences is not None:
            comparison.finish()
            differences.close()
    if player.summary.rejections:
        log.info("replay.rejected", **dict(sorted(player.summary.rejections.items())), file=REJECTIONS)
    return {
        "deterministic": settings.engine.deterministic,
        "verdicts_resumed": verdict_log.resumed,
        "recorded_deadlines": len(lateness.depths),
        "recorded_shed": len(lateness.shed),
        "recorded_busy": len(lateness.chosen),
        **({} if comparison is None else {"comparison": comparison.report()}),
    }


def _output(settings: Settings, options: Options, plan: Plan) -> Output:
    if options.form == "topic":
        assert options.topic is not None
        from earlybird.stream.replay.topic import open_topic, published_ids

        endpoint = settings.kafka.endpoint
        known = published_ids(endpoint, options.topic, plan.run_id) if options.resume else ()
        return TopicOutput(open_topic(endpoint, options.topic), options.topic, known)
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
        duration_us(options.latency or "0", "--latency")
    elif options.mode == "recorded" and options.rule != "ingested":
        raise SettingsError("--latency empirical: the broker's append time holds the latency already")
    if options.compare and options.mode == "recorded":
        raise SettingsError("--compare: recorded signals are the record; use it with recompute")


def _window(options: Options) -> Window:
    window = parse_window(options.start, options.end, time.time_ns() // 1000)
    slack_us: int | None = SLACK_US
    if options.slack is not None:
        slack_us = None if options.slack == "all" else duration_us(options.slack, "--slack")
    elif options.rule == "ingested" and options.mode == "recorded":
        slack_us = None  # the processing order of a backlog is not the order of its ingest times
    return replace(window, slack_us=slack_us, seek=options.rule != "ingested")


def _source(settings: Settings, options: Options) -> str:
    return settings.kafka.bootstrap_servers if options.archive is None else str(options.archive.resolve())


def _plan_sha256(plan: Plan) -> str:
    content = {name: value for name, value in plan.content().items() if name not in ("run_id", "source")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
