"""Invented texts: labels by hand, mirrors, breadth, the same texts for a seed, and a training with them."""

import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from earlybird.engine.engine import BUNDLED_FOLDER
from earlybird.engine.errors import ConfigError
from earlybird.engine.manifest import LABELS
from earlybird.engine.training.data import normal_form, read_examples
from earlybird.engine.training.invented import tables
from earlybird.engine.training.invented.invent import Invented, _direction, _event, _written, invent
from earlybird.engine.training.job import Job, Watch
from earlybird.engine.training.loop import Recipe
from earlybird.engine.training.train import train
from earlybird.stream.cli import main

NEGATIVE, NEUTRAL, POSITIVE = range(3)


@pytest.fixture(scope="module")
def drawn() -> list[Invented]:
    return list(invent(40_000, seed=3))


@pytest.fixture(scope="module")
def by_kind(drawn: list[Invented]) -> dict[str, list[Invented]]:
    """Return the drawn texts, more of frames and negations, and each row of events eight times.

    So a long table leaves no row untold. Written rows are told twice.
    """
    found: dict[str, list[Invented]] = {}
    rows = [told for event in tables.events("events") for key in range(8) for told in _event(event, key, "company")]
    rows += [_written(row, key) for row in tables.written() for key in range(2)]
    rng = Random(3)
    for table, count in (("frames", 20_000), ("negations", 4_000)):
        rows += [told for _ in range(count) for told in _direction(table, rng.getrandbits(48), rng)]
    for each in drawn + rows:
        found.setdefault(each.kind, []).append(each)
    return found


UNEXPECTED = r"(?i)(no longer expects|does not expect|does not foresee) (?!(its )?(share of|negative))(its )?[\w&' -]*"
GOOD = (
    r"(profit|sales|revenues?|income|earnings|margin|cash flow|orders|users|customers|(?<!debt to )ebitda|deposits|"
    r"equity) to"
)
BAD = r"(costs|losses|debt|expenses|provisions|churn|complaints|burn|outflows|loans|cancellations) to"
RISE = r" (rise|grow|climb|increase|advance|jump|surge|soar|leap|gain|edge up|tick up|go up|move up|push|expand)"
FALL = (
    r" (fall|drop|decline|decrease|shrink|slide|slip|tumble|plunge|sink|retreat|dip|ease|edge down|tick down|go down)"
)

OWED = r"(net |gross |total |short-term )?(debt|borrowings|liabilities|leverage)\b"
ROSE = r" (rose|rises?|jump(s|ed)?|climb(s|ed)?|surged?|soar(s|ed)?|leapt|increased?|went up|edged? up)\b"
FELL = (
    r" (fell|falls?|drop(s|ped)?|slid|tumbled?|declined?|plunged?|shrank|slipped|sank|slump(s|ed)?|plummet(s|ed)?|"
    r"decreased?|eased?|dip(s|ped)?|retreat(s|ed)?|edged? down)\b"
)
ILLS = (
    r"\b(unemployment|jobless claims|inflation|bankruptcies|foreclosures|job losses|budget deficit|public debt|layoffs|"
    r"continuing claims|loan defaults|household debt|consumer debt|government borrowing|insolvencies|strikes)"
)
BLESSINGS = (
    r"\b(payrolls|job openings|retail sales|exports|housing starts|building permits|car sales|consumer confidence)"
)

BY_HAND = [
    # kind, what the text says, label
    (
        "figures/(any|move)",
        r"(?<![Cc]ost of )(profit|sales|revenue|EBITDA|earnings) (rose|jumped|climbed|surged|soared|picked up)\b",
        POSITIVE,
    ),
    (
        "figures/(any|move)",
        r"(?<![Cc]ost of )(profit|sales|revenue|EBITDA|earnings) (fell|dropped|slid|tumbled|plunged|sank)\b",
        NEGATIVE,
    ),
    ("figures/move", r"(costs|losses|expenses|provisions) (rose|jumped|climbed|surged|soared)\b", NEGATIVE),
    ("figures/move", r"(costs|losses|expenses|provisions) (fell|dropped|slid|tumbled|eased)\b", POSITIVE),
    ("figures/gap", r"\bloss narrows\b", POSITIVE),
    ("figures/gap", r"\bloss widens\b", NEGATIVE),
    ("figures/gap|written_two_clauses", r"(?i)\bmargins? narrows?\b", NEGATIVE),
    ("balance/move", r"[Dd]ebt (rose|jumped|climbed|surged)\b", NEGATIVE),
    (
        "balance/move",
        r"[Dd]ebt (fell|dropped|slid|declined|edged down|tumbled|plunged|retreated|eased|slipped)\b",
        POSITIVE,
    ),
    ("balance/own", r"\b(cut|reduce|trim|slash|lower)s? (its )?" + OWED, POSITIVE),
    ("balance/own", r"\b(raise|increase|lift|expand)s? (its )?" + OWED, NEGATIVE),
    ("operations/adj", r"(?i)\b(churn|complaints|cancellations|defects|outages|accidents|vacancies) up\b", NEGATIVE),
    (
        "operations/adj",
        r"\b(?<!missed )(?<!late )(?<!lost )"
        r"(subscribers|customers|users|deliveries|shipments|bookings|sales volumes|output|traffic) up\b",
        POSITIVE,
    ),
    ("operations/move", r"\b(headcount|staff numbers|capex)\b", NEUTRAL),
    ("figures/quality", r"(?i)\b(worse|worsen\w*|deteriorat\w+)\b", NEGATIVE),
    ("short/any", r"(?i)short interest in .* (rises|jumps|climbs|increases|surges|soars)\b", NEGATIVE),
    ("price/adj", r"\bshares up\b", POSITIVE),
    ("macro/(any|move)", f"(?i){ILLS}{ROSE}", NEGATIVE),
    ("macro/(any|move)", f"(?i){ILLS}{FELL}", POSITIVE),
    ("macro/(any|move)", f"(?i){BLESSINGS}{ROSE}", POSITIVE),
    ("macro/(any|move)", f"(?i){BLESSINGS}{FELL}", NEGATIVE),
    ("market/anyprice", r"(?i)\b(yields|rates) \w+", NEUTRAL),
    ("commodity/adj", r"(?i)\b(oil|crude|natural gas|wheat) (up|down)\b", NEUTRAL),
    ("commodity/adj", r"(?i)\b(gold|copper|silver|metal|ore|nickel|zinc)\b", NEUTRAL),
    ("crypto/adj", r"(?i)\b(bitcoin|ether) up\b", POSITIVE),
    ("negation", UNEXPECTED + GOOD + RISE, NEGATIVE),
    ("negation", UNEXPECTED + GOOD + FALL, POSITIVE),
    ("negation", UNEXPECTED + BAD + RISE, POSITIVE),
    ("negation", UNEXPECTED + BAD + FALL, NEGATIVE),
    ("question", r".", NEUTRAL),
    ("level", r".", NEUTRAL),
    ("figures/compare", r"(?i)(?<![Cc]ost of )\b(revenues?|net sales|EBITDA) above\b", POSITIVE),
    ("figures/swing", r"(?i)\bfirst (pretax|operating|net) loss\b", NEGATIVE),
    ("figures/swing", r"(?i)\bfirst (pretax|operating|net) profit\b", POSITIVE),
    ("figures/loss", r"(?i)\bnarrower than\b", POSITIVE),
    ("figures/loss", r"(?i)\bwider than\b", NEGATIVE),
    ("figures/profit", r"(?i)\bmisses\b", NEGATIVE),
    ("figures/beat", r"(?i)\b(beats?|beaten|tops|topped|exceeds?)\b", POSITIVE),
    ("contract", r"\b(wins|lands|secures|clinches)\b", POSITIVE),
    ("approval", r"(?i)clinical hold on .* lifted", POSITIVE),
    ("approval", r"(misses|fails to meet|falls short of) main goal", NEGATIVE),
    ("takeover_target", r"\b(receives|draws) .* takeover (bid|offer)", POSITIVE),
    ("takeover_blocked", r"\b(blocks|vetoes|prohibits)\b", NEGATIVE),
    ("legal", r"\b(arrested|indicted|jailed)\b", NEGATIVE),
    ("legal", r"finds no wrongdoing", POSITIVE),
    ("fine", r"\b(fines|penalises)\b", NEGATIVE),
    ("fraud", r".", NEGATIVE),
    ("delisting", r"(?i)delisting notice", NEGATIVE),
    ("bankruptcy", r"\b(files for|enters)\b", NEGATIVE),
    ("default", r"\b(misses payment on|defaults on)\b", NEGATIVE),
    ("dilution", r"(?i)\b(discounted|dilutive|emergency)\b", NEGATIVE),
    ("buyback", r"\b(announces|launches|unveils|approves)\b", POSITIVE),
    ("dividend", r"\b(cuts|slashes|suspends|omits|axes)\b", NEGATIVE),
    ("jobs", r"(?i)\b(redundancies|job cuts|lay-offs)\b", NEGATIVE),
    ("accident", r"\b(killed|injured|dead)\b", NEGATIVE),
    ("cyber", r"(?i)\b(ransomware|data breach)\b", NEGATIVE),
    ("ratings", r"\bdowngrades\b", NEGATIVE),
    ("guidance", r"\bprofit warning\b", NEGATIVE),
    ("estimates", r"\b(beats|tops|crushes|smashes)\b", POSITIVE),
    ("swing", r"\b(swings|returns) to (profit|a profit|net profit)\b", POSITIVE),
    ("swing", r"\b(swings|slips) to (loss|a loss|net loss)\b", NEGATIVE),
    ("irony", r"(?i)another (dilution|guidance cut|profit warning)", NEGATIVE),
    (
        "irony",
        r"(?i)(shorts, (you will be missed|thanks for the fuel|cover while)|(who|everyone) said \$\w+ was dead)",
        POSITIVE,
    ),
    ("irony", r"(?i)(love losing|nothing to see here|said no one)", NEGATIVE),
    ("tweet", r"(🚀|📈|🐂)", POSITIVE),
    ("tweet", r"(📉|🩸|🐻)", NEGATIVE),
    ("acquirer_neutral", r".", NEUTRAL),
    ("legal_neutral", r"\bdenies\b", NEUTRAL),
    ("flat", r".", NEUTRAL),
    ("stays", r".", NEUTRAL),
    ("notice", r".", NEUTRAL),
    ("lookalike", r".", NEUTRAL),
    ("mixed", r".", NEUTRAL),
    ("tweet_neutral", r".", NEUTRAL),
]


@pytest.mark.parametrize(("kind", "says", "label"), BY_HAND)
def test_labels_are_those_of_a_trader(by_kind: dict[str, list[Invented]], kind: str, says: str, label: int) -> None:
    """Every text of a kind that says this has this label, and there is one."""
    texts = [each for name, told in by_kind.items() if re.fullmatch(kind, name) for each in told]
    found = [each for each in texts if re.search(says, each.text)]
    assert found
    assert not [each.text for each in found if each.label != label]


def test_directional_texts_stand_beside_their_mirror(drawn: list[Invented]) -> None:
    """Same company and frame, opposite label; a neutral subject stays neutral."""
    pairs = [each for each in drawn if "/" in each.kind or each.kind == "negation"]
    assert len(pairs) > 3_500
    for one, other in zip(pairs[::2], pairs[1::2], strict=True):
        assert one.kind == other.kind
        assert one.label + other.label == 2 * NEUTRAL
        assert one.text != other.text
    signed = Counter(each.label for each in pairs)
    assert signed[NEGATIVE] == signed[POSITIVE]


def test_a_seed_gives_the_same_texts() -> None:
    """Another seed gives others, and fewer texts are the first ones of more."""
    texts = list(invent(300, seed=5))
    assert texts == list(invent(300, seed=5))
    assert texts[:200] == list(invent(400, seed=5))[:200]
    assert len({each.text for each in texts} & {each.text for each in invent(300, seed=6)}) < 3


def test_texts_are_distinct_and_varied(drawn: list[Invented]) -> None:
    """No normal form twice; no few shapes that make up most of them."""
    assert len({normal_form(each.text) for each in drawn}) == len(drawn) == 40_000
    starts = Counter(re.sub(r"\d+", "0", normal_form(each.text))[-24:] for each in drawn)
    assert starts.most_common(1)[0][1] < 0.03 * len(drawn)
    assert min(Counter(each.label for each in drawn).values()) > 0.2 * len(drawn)


def test_balanced_texts_have_each_label_alike() -> None:
    """Give or take one."""
    for count in (1, 2, 100, 3001):
        labels = Counter(each.label for each in invent(count, seed=1, balanced=True))
        assert sum(labels.values()) == count
        assert max(labels.values()) - min(labels[label] for label in range(3)) <= 1
    with pytest.raises(ConfigError, match="at least one"):
        list(invent(0))


def test_nothing_of_the_templates_is_left(drawn: list[Invented]) -> None:
    """Slots, choices and articles are all filled; no row but a written one says "None"."""
    marks = r"[{}\[\]<>|]|a\(n\)|  "
    assert not [each.text for each in drawn if re.search(marks, each.text.replace("->", "").replace("  ", " "))]
    assert not [each.text for each in drawn if "None" in each.text and not each.kind.startswith("written")]
    assert not [each.text for each in drawn if not each.text.strip() or each.text != each.text.strip()]


def test_tables_hold_what_they_promise() -> None:
    """Enough subjects and verbs, each subject once, every row in use."""
    names = [each.name for each in tables.subjects()]
    assert len(names) == len(set(names)) >= 1500
    assert len({form.base for move in tables.moves() for form in (move.up, move.down)}) >= 250
    known = {move.kind for move in tables.moves()} | {"any", "anyprice", "noun", "adj", "compare"} | tables.TAGGED
    assert {frame.verbs for name in ("frames", "negations") for frame in tables.frames(name)} <= known
    groups = {each.group for each in tables.subjects()} - tables.COMPANY | {"company"}
    assert {frame.group for frame in tables.frames("frames")} - tables.COMPANY == groups


def test_every_slot_of_every_template_is_known() -> None:
    """A misspelt slot in a table is found here and not in the middle of a training."""
    from earlybird.engine.training.invented.scene import Scene

    subject = next(each for each in tables.subjects() if each.unit == "money")
    move = next(each for each in tables.moves() if each.kind == "move")
    templates = [frame.template for name in ("frames", "negations") for frame in tables.frames(name)]
    templates += [
        text for name in ("events", "tweets") for each in tables.events(name) for text in (each.good, each.bad)
    ]
    templates += [template for *_, template in tables.neutral() + tables.written() + tables.contexts()]
    for template in templates:
        for slot in re.findall(r"\{[^{}]*\}", template):
            for sentiment in (1, 0, -1):
                if slot != "{contrast}" or sentiment:
                    Scene(1, 1, sentiment, subject, move).fill(slot)


def write(path: Path, count: int = 60) -> Path:
    phrases = ("cuts outlook", "names chairman", "lifts outlook")
    lines = [json.dumps({"text": f"Firm{n} {phrases[n % 3]}", "label": LABELS[n % 3]}) for n in range(count)]
    path.write_text("\n".join(lines), "utf-8")
    return path


def test_a_training_counts_its_invented_texts(tmp_path: Path) -> None:
    """They are added to what is trained on; dev and calibration hold the user's texts alone."""
    job = Job(
        start=str(BUNDLED_FOLDER),
        train=(write(tmp_path / "texts.jsonl"),),
        output=tmp_path / "run",
        invented=40,
        layers=2,
        recipe=Recipe(epochs=1, learning_rate=1e-4),
    )
    outcome = train(job, Watch())
    assert (outcome.chosen / "manifest.json").exists()
    sizes = json.loads((tmp_path / "run" / "data.json").read_text())
    assert {name: part["texts"] for name, part in sizes.items()} == {
        "train": 48,
        "augmented": 0,
        "invented": 40,
        "unlabelled": 0,
        "dev": 6,
        "calibration": 6,
    }
    kept = [json.loads(line)["text"] for line in (tmp_path / "run" / "calibration.jsonl").read_text().splitlines()]
    assert all(text.startswith("Firm") for text in kept)


def test_the_command_prints_what_train_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON lines; the extra field `kind` is for readers."""
    assert main(["invent", "30", "--seed", "2", "--balanced"]) == 0
    path = tmp_path / "texts.jsonl"
    path.write_text(capsys.readouterr().out, "utf-8")
    assert Counter(each.label for each in read_examples(path)) == {0: 10, 1: 10, 2: 10}
    assert main(["invent", "0"]) == 2
