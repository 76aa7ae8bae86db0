"""Augmentation of training texts: more texts with the same labels, computed once and cached.

`back-translation=OUT,BACK` translates to another language and back with two MarianMT models. `module:function` calls a
function of yours, which takes a text and returns a list of texts.
"""

import hashlib
import importlib
import inspect
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from earlybird.engine.errors import ConfigError, NotAModel
from earlybird.engine.training.data import Example, normal_form

BACK_TRANSLATION = "back-translation="
BATCH = 16
MOST_TOKENS = 512
"""Longest text of a translation model that does not state its own."""

Progress = Callable[[str, int, int], None]
"""Called with the augmentation, the texts done and the texts in total."""


class Augmentation(Protocol):
    """Makes further texts from texts."""

    name: str  # as on the command line
    key: str  # hash of what it computes with; other models or another function have another

    def batches(self, texts: Sequence[str]) -> Iterator[list[Sequence[str]]]:
        """Yield the new texts of each text, batch by batch in their order."""
        ...


def augmentation(spec: str) -> Augmentation:
    """Parse `back-translation=OUT,BACK` or `module:function`; raises ConfigError."""
    if spec.startswith(BACK_TRANSLATION):
        models = spec.removeprefix(BACK_TRANSLATION).split(",")
        if len(models) != 2 or not all(models):
            raise ConfigError(f"augment: {BACK_TRANSLATION}OUT,BACK with two MarianMT models required, was {spec!r}")
        return BackTranslation(spec, *models)
    return Function(spec)


def augmented(
    found: Augmentation, examples: Sequence[Example], cache: Path, progress: Progress = lambda *_: None
) -> list[Example]:
    """Return the new texts of labelled texts, each with the label of its origin.

    Left out: empty texts, and those that equal a given or another new one but for case, links and punctuation. The
    cache is one file per augmentation in the folder `cache`, appended batch by batch, so that an interrupted run goes
    on where it was.
    """
    path = cache / f"augmented-{found.key[:16]}.jsonl"
    known = _read(path)
    missing = list(dict.fromkeys(example.text for example in examples if _key(example.text) not in known))
    done = len(examples) - len(missing)
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")  # ends a line that a kill cut off
            start = 0
            for batch in found.batches(missing):
                for text, new in zip(missing[start : start + len(batch)], batch, strict=True):
                    known[_key(text)] = list(new)
                    file.write(json.dumps({"text_sha256": _key(text), "new": list(new)}, ensure_ascii=False) + "\n")
                file.flush()
                start += len(batch)
                progress(found.name, done + start, len(examples))
    seen = {normal_form(example.text) for example in examples}
    kept = []
    for example in examples:
        for text in known[_key(example.text)]:
            form = normal_form(text)
            if form and form not in seen:
                seen.add(form)
                kept.append(Example(text, example.label))
    return kept


class Function:
    """A function of the user: text in, list of texts out."""

    def __init__(self, spec: str) -> None:
        module, colon, name = spec.partition(":")
        if not (module and colon and name):
            raise ConfigError(f"augment: {BACK_TRANSLATION}OUT,BACK or module:function required, was {spec!r}")
        try:
            self._function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"augment: {spec!r} cannot be imported, {error}; is its folder on PYTHONPATH?") from None
        if not callable(self._function):
            raise ConfigError(f"augment: a function required, {spec!r} was {type(self._function).__name__}")
        self.name = spec
        self.key = hashlib.sha256(f"{spec}\0{_source(self._function)}".encode("utf-8", "replace")).hexdigest()

    def batches(self, texts: Sequence[str]) -> Iterator[list[Sequence[str]]]:
        for text in texts:
            try:
                new = self._function(text)
            except Exception as error:  # the user's code
                raise ConfigError(f"augment: {self.name} failed on {text!r}, {error!r}") from error
            if not isinstance(new, list | tuple) or not all(isinstance(each, str) for each in new):
                raise ConfigError(f"augment: {self.name} must return a list of texts, was {new!r}")
            yield [new]


class BackTranslation:
    """Translation there and back by two MarianMT models, folders or hub names.

    Decoding is greedy, so a text always becomes the same one.
    """

    def __init__(self, spec: str, out: str, back: str) -> None:
        self.name, self._models = spec, (out, back)
        self.key = hashlib.sha256("\0".join(_identity(model) for model in self._models).encode()).hexdigest()

    @torch.inference_mode()
    def batches(self, texts: Sequence[str]) -> Iterator[list[Sequence[str]]]:
        there, back = (_Marian(model) for model in self._models)
        for start in range(0, len(texts), BATCH):
            yield [[text] for text in back.translate(there.translate(texts[start : start + BATCH]))]


class _Marian:
    def __init__(self, model: str) -> None:
        import transformers  # takes seconds to import

        library: Any = transformers
        try:
            with warnings.catch_warnings():  # it normalises punctuation, which our profiles do
                warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")
                self._tokenizer = library.MarianTokenizer.from_pretrained(model)
            self._model = library.MarianMTModel.from_pretrained(model).eval()
        except Exception as error:  # OSError, ValueError, ImportError and others, depending on the version
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise NotAModel(f"augment: {model}: transformers cannot load it as MarianMT, {reason}") from None
        self._longest = min(getattr(self._model.config, "max_position_embeddings", MOST_TOKENS), MOST_TOKENS)

    def translate(self, texts: Sequence[str]) -> list[str]:
        encoded = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
        )
        found = self._model.generate(**encoded, num_beams=1, do_sample=False, max_length=self._longest)
        return [text.strip() for text in self._tokenizer.batch_decode(found, skip_special_tokens=True)]


def _identity(model: str) -> str:
    """Return a hash of a folder's files, or a hub name as it is."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(path.name.encode("utf-8", "replace"))
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _source(function: Any) -> str:
    """Return the source of a function's module: a change of it changes the key."""
    try:
        return inspect.getsource(inspect.getmodule(function) or function)
    except (OSError, TypeError):  # built in, or made at run time
        return ""


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path) -> dict[str, list[str]]:
    """Read the cache; a last line that a kill cut off is left out."""
    found: dict[str, list[str]] = {}
    for line in path.read_text("utf-8").split("\n") if path.exists() else ():
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        found[fields["text_sha256"]] = fields["new"]
    return found
