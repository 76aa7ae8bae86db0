"""Labelled texts from files, and splits of them that share no text."""

import csv
import gzip
import hashlib
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import IO

from earlybird.engine.errors import DataError
from earlybird.engine.manifest import LABELS

UNLABELLED = -1


@dataclass(frozen=True, slots=True)
class Example:
    """One text with its label, an index into manifest.LABELS.

    The label is UNLABELLED for texts that only teachers label.
    """

    text: str
    label: int = UNLABELLED


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the text and label columns in a table or in JSON lines."""

    text: str = "text"
    label: str = "label"


def read_examples(
    path: Path, labels: Mapping[str, str] | None = None, columns: Columns | None = None, *, unlabelled: bool = False
) -> list[Example]:
    """Read a file of labelled texts.

    The file name gives the format: .jsonl, .csv and .tsv with a header line (also with .gz appended), and .txt in the
    Financial PhraseBank's format, `text@label`, UTF-8 or Latin-1. `labels` maps the file's labels to negative, neutral,
    positive; None: the file uses these words, in any case. `unlabelled`: texts without a label are read, too. Raises
    DataError with the line.
    """
    names = {name.casefold(): name for name in LABELS} if labels is None else _label_map(labels)
    found = []
    for line, (text, label) in enumerate(_rows(path, columns or Columns()), start=1):
        if not text or not text.strip():
            raise DataError(f"{path}: row {line}: a text required, was {text!r}")
        if label in (None, ""):
            if not unlabelled:
                raise DataError(f"{path}: row {line}: a label required, was none")
            found.append(Example(text))
            continue
        name = names.get(str(label).strip().casefold())
        if name is None:
            known = ", ".join(sorted(names))
            raise DataError(f"{path}: row {line}: a label of {known} required, was {label!r}; map others with --labels")
        found.append(Example(text, LABELS.index(name)))
    if not found:
        raise DataError(f"{path}: at least one text required, was none")
    return found


def normal_form(text: str) -> str:
    """Return a text's normal form: equal forms count as one text in splits.

    It holds letters, digits, $ and % of the lower-cased text, without links.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"https?://\S+|^rt\s+@\w+:?|[^\w$%]+", " ", folded).split())


def split(examples: Sequence[Example], shares: Sequence[float], seed: int) -> list[list[Example]]:
    """Divide texts into disjoint parts of these shares (sum 1), stratified by label.

    Texts with one normal form stay in one part, so that no part contains another's texts. Deterministic for a seed.
    """
    if abs(sum(shares) - 1.0) > 1e-9 or min(shares) < 0:
        raise DataError(f"split: shares that add up to 1 required, was {list(shares)}")
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[normal_form(example.text)].append(example)
    by_label: dict[int, list[list[Example]]] = defaultdict(list)
    for name in sorted(groups):
        by_label[Counter(example.label for example in groups[name]).most_common(1)[0][0]].append(groups[name])
    parts: list[list[Example]] = [[] for _ in shares]
    for label in sorted(by_label):
        texts = by_label[label]
        Random(f"{seed}/{label}").shuffle(texts)
        start, taken = 0, 0.0
        for part, share in zip(parts, shares, strict=True):
            taken += share
            stop = round(taken * len(texts))
            part.extend(example for group in texts[start:stop] for example in group)
            start = stop
    for number, part in enumerate(parts):
        Random(f"{seed}/part/{number}").shuffle(part)
    return parts


def without(examples: Sequence[Example], others: Sequence[Example]) -> list[Example]:
    """Drop the texts that another set also holds."""
    known = {normal_form(example.text) for example in others}
    return [example for example in examples if normal_form(example.text) not in known]


def stratified(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Draw at most `count` texts with the labels in their proportion."""
    if count >= len(examples):
        return list(examples)
    return split(examples, (count / len(examples), 1 - count / len(examples)), seed)[0]


def hashes(examples: Iterable[Example]) -> set[int]:
    """Return 64-bit hashes of the texts' normal forms, to recognise a text later."""
    return {
        int.from_bytes(hashlib.sha256(normal_form(example.text).encode("utf-8", "replace")).digest()[:8], "big")
        for example in examples
    }


def fingerprint(examples: Sequence[Example]) -> str:
    """Return 64 hex digits over texts and labels, in order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(f"{example.label}\t{example.text}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _label_map(labels: Mapping[str, str]) -> dict[str, str]:
    for name in labels.values():
        if name not in LABELS:
            raise DataError(f"labels: {', '.join(LABELS)} required on the right side, was {name!r}")
    return {theirs.strip().casefold(): ours for theirs, ours in labels.items()}


Row = tuple[str | None, str | None]  # text, label


def _rows(path: Path, columns: Columns) -> Iterator[Row]:
    try:
        with _opened(path) as lines:
            name = path.name.removesuffix(".gz")
            if name.endswith(".jsonl"):
                yield from _json_rows(path, lines, columns)
            elif name.endswith((".csv", ".tsv")):
                yield from _table_rows(path, lines, columns, "\t" if name.endswith(".tsv") else ",")
            elif name.endswith(".txt"):
                for line in filter(str.strip, lines):
                    text, at, label = line.rstrip("\r\n").rpartition("@")
                    yield (text, label) if at else (label, None)
            else:
                raise DataError(f"{path}: a file .jsonl, .csv, .tsv or .txt (text@label), also .gz, required")
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read, {error}") from None


def _opened(path: Path) -> IO[str]:
    encoding = "utf-8-sig"
    if path.name.endswith(".txt"):
        try:
            path.read_text(encoding)
        except UnicodeDecodeError:
            encoding = "latin-1"  # the encoding of the Financial PhraseBank's own files
    opened: IO[str] = (gzip.open if path.name.endswith(".gz") else open)(path, "rt", encoding=encoding, newline="")
    return opened


def _json_rows(path: Path, lines: IO[str], columns: Columns) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {number}: no JSON, {error}") from None
        if not isinstance(fields, dict) or not isinstance(fields.get(columns.text), str):
            raise DataError(f"{path}: line {number}: a text in {columns.text!r} required")
        label = fields.get(columns.label)
        yield fields[columns.text], None if label is None else str(label)


def _table_rows(
    path: Path, lines: IO[str], columns: Columns, delimiter: str
) -> Iterator[tuple[str | None, str | None]]:
    table = csv.DictReader(lines, delimiter=delimiter)
    header = table.fieldnames or []
    for name in (columns.text, columns.label):
        if name not in header:
            raise DataError(f"{path}: a column {name!r} required, was {', '.join(header) or 'an empty file'}")
    for row in table:
        yield row[columns.text], row[columns.label]
