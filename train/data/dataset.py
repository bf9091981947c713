"""An exported dataset: opened with every digest recomputed, each row read strictly, and what a row's messages mean.

A row is checked once, here. Whoever gets a `Row` may rely on its types, and only asks for what it says: which messages
are answers, what their tokens weigh, which texts reach the tokens, what a chat template gets.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from heapq import nsmallest
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, overload

from pydantic import BaseModel, Field, ValidationError, model_validator

from train.base import console
from train.base.errors import TrainError
from train.base.storage import MOST_DOCUMENT, FileGuardError, digest_of, read_file
from train.base.strict_json import parse_object, raise_bad_dataset
from train.data.plain_files import SPLITS, choose_splits, read_plain

if TYPE_CHECKING:
    from train.recipe import Objective, Reasoning


MANIFEST = "manifest.json"
VERSION = 1
"""The version of manifests that is read here."""
MOST_WEIGHT = 1000
SliceValues = Mapping[str, Sequence[str | float]]
"""By the name of a slice, such as "/meta/language", the values that a record has there."""
_EXPORT_AGAIN = "Export the dataset again; a run uses no row that the manifest does not vouch for."
TRAINING = {"train": True, "weight": 1}
"""What a message says about its training, by default; no template and no model sees it."""
REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
"""What messages and chat templates call the reasoning before an answer; an export writes the first."""
_Weight = Annotated[float, Field(ge=0, le=MOST_WEIGHT)]


class _MessageLine(BaseModel, strict=True, extra="allow"):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    train: bool | None = None
    weight: _Weight | None = None
    reasoning_content: str | None = None
    thinking: str | None = None
    reasoning: str | None = None

    @model_validator(mode="after")
    def _check_marks(self) -> Self:
        if self.role != "assistant" and (self.train or self.weight or reasoning_of(vars(self))):
            raise ValueError("train, weight and reasoning are the assistant's own: only what it says is trained")
        return self


_Messages = Annotated[list[_MessageLine], Field(min_length=1)]


class _AnswerLine(BaseModel, strict=True):
    messages: _Messages
    rating: float


class _RowLine(BaseModel, strict=True):
    id: Annotated[str, Field(min_length=1)]
    kind: str
    category: str
    cluster: str
    messages: _Messages | None = None
    text: str | None = None
    tools: list[dict[str, Any]] | None = None
    weight: _Weight | None = None
    answers: Annotated[list[_AnswerLine], Field(min_length=1)] | None = None
    slices: dict[str, list[str | int | float]] | None = None

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if (self.messages is None) == (self.text is None):
            raise ValueError(f"record {self.id!r} needs either messages or text")
        messages, answers = self.messages or [], self.answers or []
        best = _unmarked(answers[0].messages) if answers else []
        if best and (len(messages) <= len(best) or _unmarked(messages[-len(best) :]) != best):
            raise ValueError("the messages must end with the first of the answers, after a question")
        if any(before.rating < after.rating for before, after in pairwise(answers)):
            raise ValueError("the answers must stand in the order of their ratings, the best first")
        return self


def _unmarked(messages: Sequence[_MessageLine]) -> list[dict[str, Any]]:
    # An answer that was not liked is marked so that nobody learns it.
    return [message.model_dump(exclude={*TRAINING}) for message in messages]


@dataclass(frozen=True)
class RatedAnswer:
    """One of the answers that a record compares; a higher rating is better, and of a verdict 1 is good and 0 is not."""

    messages: list[dict[str, Any]]
    rating: float


@dataclass(frozen=True)
class Row:
    """One record as `curate export` wrote it: messages, or raw text."""

    id: str
    category: str
    cluster: str
    messages: list[dict[str, Any]] | None
    tools: list[dict[str, Any]] | None
    text: str | None
    source: str = ""
    weight: float = 1.0
    """How much each trained token of the record counts in the loss."""
    answers: Sequence[RatedAnswer] = ()
    """Of a preference the answers that it compares, best first; the messages end with the first of them."""
    slices: SliceValues | None = None
    """The values by which answers are compared beside the category; None where the manifest names no slices."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Id, category and cluster, which travel with the tokens into the report."""
        return self.id, self.category, self.cluster

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of what the record says, by which curation knows whether it still does."""
        return digest_of([self.messages, self.tools, self.text, [answer.messages for answer in self.answers]])

    @property
    def first_answer(self) -> int | None:
        """The index of the first message of a preference's answer; None of other rows."""
        return len(self.messages or ()) - len(self.answers[0].messages) if self.answers else None

    @cached_property
    def rejected(self) -> Row | None:
        """The row with the worst of the answers that it compares; None where none is better than another."""
        if len(self.answers) < 2 or self.answers[0].rating == self.answers[-1].rating:
            return None
        messages = [*(self.messages or ())[: self.first_answer], *self.answers[-1].messages]
        return replace(self, messages=messages, answers=self.answers[-1:])

    @property
    def with_trained_answer(self) -> Row:
        """The row with its answer trained where that was not liked, as who learns from verdicts reads it."""
        if self.is_liked is not False:
            return self
        row = replace(self, messages=[*(self.messages or ())[: self.first_answer], *self.answers[0].messages])
        # The record says the same: curation knows nothing of this form.
        vars(row)["digest"] = self.digest
        return row

    @property
    def is_liked(self) -> bool | None:
        """The verdict on an answer that stands alone; None of other rows."""
        return self.answers[0].rating > 0 if len(self.answers) == 1 else None


@dataclass(frozen=True)
class Dataset:
    """A verified export: its manifest, its rows by split, and the SHA-256 of its manifest.

    Plain files have a manifest that was made here, and the SHA-256 of what their rows say.
    """

    path: Path
    manifest: dict[str, Any]
    splits: Mapping[str, Sequence[Row]]
    digest: str
    remarks: Sequence[str] = ()
    """What a report says of where the records come from."""

    def flagged_ids(self) -> frozenset[str]:
        """Return the ids of the records that have personal data, secrets or the like in them, by findings X7xx.

        Raises TrainError "E912 bad-dataset" where there are some, and the manifest does not name their records.
        """
        return _flagged_in(self.manifest, self.path / MANIFEST)


def read_flagged(rows: Path) -> frozenset[str]:
    """Return what `Dataset.flagged_ids` does, for a file of rows beside a manifest; without one there are none.

    Raises TrainError "E912 bad-dataset" as it does, and where the manifest cannot be read.
    """
    manifest = rows.parent / MANIFEST
    if not manifest.is_file():
        return frozenset()
    return _flagged_in(parse_object(_read(manifest, _EXPORT_AGAIN), manifest.name), manifest)


def _flagged_in(manifest: Mapping[str, Any], path: Path) -> frozenset[str]:
    flagged, findings = manifest.get("flagged"), manifest.get("findings")
    if flagged is None and any(code.startswith("X7") for code in (findings if isinstance(findings, dict) else ())):
        raise TrainError(
            "E912 bad-dataset",
            f"{path} counts findings X7xx, such as personal data, but names no records",
            "Export the dataset again, or send all: --send-flagged; in a recipe eval.judge.send_flagged.",
        )
    if not isinstance(flagged, list | None) or not all(isinstance(name, str) for name in flagged or ()):
        raise TrainError("E912 bad-dataset", f"{path}: flagged is not a list of ids", _EXPORT_AGAIN)
    return frozenset(flagged or ())


def open_dataset(folder: Path) -> Dataset:
    """Return the dataset in ``folder`` after its files proved to be those that the manifest describes.

    A plain file, or a folder without a manifest, is read as `train.data.plain_files` says. Raises TrainError "E911
    dataset-changed" where a file's SHA-256, size or number of rows differs, and "E912 bad-dataset" where the manifest
    or a row cannot be read, with file and line.
    """
    manifest_path = folder / MANIFEST
    if not manifest_path.exists():
        return _open_plain(folder)
    raw = _read(manifest_path, "Make a dataset with `curate export`.")
    manifest = parse_object(raw, manifest_path.name)
    if type(manifest.get("version")) is not int or manifest["version"] != VERSION:
        raise TrainError(
            "E912 bad-dataset",
            f"{manifest_path}: its version is {json.dumps(manifest.get('version'))[:40]}; this program reads {VERSION}",
            "Upgrade pairsmith, or export again with the version that is installed here.",
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or not isinstance(manifest.get("categories", {}), dict):
        raise TrainError("E912 bad-dataset", f"{manifest_path}: no table of files and categories")
    splits: dict[str, Sequence[Row]] = dict.fromkeys(SPLITS, ())
    split_of: dict[str, str] = {}
    for split in SPLITS:
        name = f"{split}.jsonl"
        if name in files:
            rows = _read_rows(folder / name, files[name])
            for record in rows.ids:
                # Reports name a record by its id alone, and a record of two splits would be its own exam.
                if record in split_of:
                    where = f"{split_of[record]} and again in {split}"
                    raise TrainError("E912 bad-dataset", f"record {record!r} stands in {where}")
                split_of[record] = split
            # The exam is read many times.
            splits[split] = rows if split == "train" else list(rows)
        # A split that somebody put there by hand would be trained on, or be the exam, without a trace.
        elif (folder / name).exists():
            raise TrainError("E911 dataset-changed", f"{folder / name} is not in the manifest", _EXPORT_AGAIN)
    return Dataset(folder, manifest, splits, hashlib.sha256(raw).hexdigest())


def _open_plain(path: Path) -> Dataset:
    lines, name = read_plain(path), path.resolve().name
    rows = [parse_row(line, line["source"]) for line in lines]
    kinds = {line["kind"]: line["source"] for line in reversed(lines)}
    # What is not trained of a prompt and completion is marked, so that "chat" trains the same.
    if len(kinds) > 1 and kinds.keys() != {"chat", "sft"}:
        raise_bad_dataset(str(path), f"a dataset has rows of one objective, and this one has {kinds}")
    remark = f"Not vouched for: {name} is no export of `curate`, so that nobody reviewed it or looked for repeats"
    remark = f"{remark}; {choose_splits(path, lines)}."
    # Known again by what the rows say, wherever they lie.
    digest = digest_of([line | {"source": ""} for line in lines])
    splits = {split: [row for row, line in zip(rows, lines, strict=True) if line["split"] == split] for split in SPLITS}
    console.info(f"{remark} {', '.join(f'{len(part):,} {split}' for split, part in splits.items())}")
    manifest = {
        "name": name, "objective_hint": min(kinds),
        "categories": {row.category: {} for row in rows},
        "files": {f"{split}.jsonl": {"sha256": f"{digest} {split}"} for split in SPLITS},
    }  # fmt: skip
    return Dataset(path, manifest, splits, digest, [remark])


def open_same_dataset(
    record: dict[str, Any], moved: Path | None, read: Callable[[Path], Dataset] = open_dataset
) -> Dataset:
    """Return the dataset of a run, which may have ``moved``; ``read`` makes it of its path.

    Raises TrainError: E911 dataset-changed, E912 bad-dataset.
    """
    recorded = record.get("dataset")
    path = moved or Path(str(recorded.get("path")) if isinstance(recorded, dict) else "")
    if not path.exists():
        raise TrainError(
            "E912 bad-dataset", f"the run's dataset {path} is not there", "Say where it is now with --dataset."
        )
    opened = read(path)
    if not isinstance(recorded, dict) or opened.digest != recorded.get("sha256"):
        raise TrainError(
            "E911 dataset-changed", f"{path} is not the dataset of the run", "Name the right one with --dataset."
        )
    return opened


def sample_rows(rows: Sequence[Row], most: int) -> list[Row]:
    """Return at most ``most`` rows by the hash of their ids: the same ones whatever their order and number."""
    # A run that is resumed, or made again after records were added, evaluates the same sample.
    ids = rows.ids if isinstance(rows, Rows) else [row.id for row in rows]
    return [rows[index] for index in nsmallest(most, range(len(ids)), key=lambda index: hash_id(ids[index]))]


def hash_id(record: str) -> bytes:
    """Return the hash of an id by which samples are taken."""
    return hashlib.sha256(record.encode()).digest()


def _read(path: Path, hint: str) -> bytes:
    try:
        return read_file(path, most=MOST_DOCUMENT)
    except OSError as error:
        raise TrainError("E912 bad-dataset", f"{path}: {error.strerror}", hint) from None


class Rows(Sequence[Row]):
    """The rows of a file, kept as its lines, which take a part of the memory, and made when they are asked for.

    Raises TrainError "E912 bad-dataset" with the line.
    """

    def __init__(self, raw: bytes, name: str) -> None:
        numbered = [(number, line) for number, line in enumerate(raw.split(b"\n"), 1) if line.strip()]
        self._lines = [line for _, line in numbered]
        self.ids = [parse_row_line(line, f"{name}:{number}").id for number, line in numbered]

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        # What was read strictly before needs no second look.
        lines = self._lines[index]
        return _row(json.loads(lines)) if isinstance(lines, bytes) else [_row(json.loads(line)) for line in lines]


def _read_rows(path: Path, entry: Any) -> Rows:
    """The rows of the file that a manifest's ``entry`` describes."""
    size = entry.get("bytes") if isinstance(entry, dict) else None
    if type(size) is not int:
        raise TrainError("E912 bad-dataset", f"{MANIFEST}: {path.name} has no number of bytes", _EXPORT_AGAIN)
    # A file that grew is not the one that the manifest describes, and nothing of another one is even parsed.
    try:
        raw = read_file(path, most=size)
    except FileGuardError as error:
        raise TrainError("E911 dataset-changed", f"{path}: {error.strerror}", _EXPORT_AGAIN) from None
    except OSError as error:
        raise TrainError("E912 bad-dataset", f"{path}: {error.strerror}", _EXPORT_AGAIN) from None
    if entry.get("sha256") != hashlib.sha256(raw).hexdigest():
        raise TrainError("E911 dataset-changed", f"{path}: the SHA-256 is not the manifest's", _EXPORT_AGAIN)
    rows = Rows(raw, path.name)
    if entry.get("records", len(rows)) != len(rows):
        differ = f"{len(rows)} rows, the manifest says {entry['records']}"
        raise TrainError("E911 dataset-changed", f"{path}: {differ}", _EXPORT_AGAIN)
    return rows


def parse_row_line(line: bytes, location: str) -> Row:
    """Return the row that a line holds; ``location`` names the line. Raises TrainError "E912 bad-dataset"."""
    return parse_row(parse_object(line, location), location)


def parse_row(value: dict[str, Any], location: str) -> Row:
    """Return the row that an object says, as `parse_row_line` does."""
    try:
        _RowLine.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
        raise_bad_dataset(location, f"{path}: {problem['msg'].removeprefix('Value error, ')}".lstrip(".: "))
    return _row(value)


def _row(value: dict[str, Any]) -> Row:
    messages, source, weight = value.get("messages"), value.get("source"), value.get("weight")
    answers = tuple(RatedAnswer(one["messages"], float(one["rating"])) for one in value.get("answers") or ())
    # Other exporters leave content out where there are tool calls; from here on every message has one.
    for message in (*(messages or ()), *(message for answer in answers for message in answer.messages)):
        message.setdefault("content", None)
    return Row(
        value["id"], value["category"], value["cluster"] or value["id"], messages, value.get("tools") or None,
        value.get("text"), source if isinstance(source, str) else "", 1.0 if weight is None else float(weight), answers,
        value.get("slices"),
    )  # fmt: skip


class RowFault(TrainError):  # noqa: N818 - a fault of a row, as a finding is of a line
    """One row cannot be rendered; ``reason`` is the same for all rows with this fault."""

    error_code = "E923 bad-rows"
    advice = (
        "Fix the records, take a base whose template has what they need, or leave them out, counted, with "
        "--set on_unrenderable=skip. See a record with `train preview`."
    )
    """What to do about rows with this fault."""
    is_unrenderable = True
    """Whether on_unrenderable = skip leaves the row out."""

    def __init__(self, reason: str) -> None:
        super().__init__(self.error_code, reason)
        self.reason = reason


class TemplateFault(RowFault):
    """The chat template does something that no row can fix."""

    error_code = "E922 bad-template"
    advice = "See a record token by token with `train preview`."
    is_unrenderable = False


class ControlTokenFault(RowFault):
    """A text of the row holds a control token."""

    error_code = "E924 control-token-in-data"
    advice = "Fix the records, or train them as plain text with allow_special_tokens = true."
    is_unrenderable = False


class TooLongFault(RowFault):
    """The row has more than max_length tokens."""

    error_code = "E925 too-long"
    advice = (
        "Add --set on_too_long=skip to leave them out, --set on_too_long=cut to cut them (both are counted), or "
        "--set max_length=N to allow more tokens. `curate train` takes these after --."
    )
    is_unrenderable = False


class NoTrainedAnswer(RowFault):
    """No answer of a record may be trained; such records are set aside and counted."""


def weight_of(message: Mapping[str, Any]) -> float:
    """Return what each token of an answer counts: its "weight", 1 without one, and 0 where "train" is false."""
    weight = message.get("weight")
    return 0.0 if message.get("train") is False else 1.0 if weight is None else float(weight)


def last_answer(messages: Sequence[dict[str, Any]]) -> int:
    """Return the index of the last assistant message; raises RowFault where there is none."""
    for turn in range(len(messages) - 1, -1, -1):
        if messages[turn]["role"] == "assistant":
            return turn
    raise RowFault("no message of the assistant, so nothing is trained")


def answers_of(messages: Sequence[dict[str, Any]], objective: Objective, first: int | None = None) -> list[int]:
    """Return the indices of the answers that an objective trains: each one for "chat", else the last.

    ``first`` is where the answer of a preference begins; where preferences are trained, all turns of it are.
    Raises RowFault where there is none.
    """
    last = last_answer(messages)
    begin = 0 if objective == "chat" else last
    if first is not None and objective in ("dpo", "orpo", "kto"):
        begin = first
    return [n for n in range(begin, last) if messages[n]["role"] == "assistant"] + [last]


def reasoning_of(message: Mapping[str, Any]) -> str:
    """Return the reasoning before an answer, "" where there is none that can be read."""
    return next((reasoning for name in REASONING_KEYS if (reasoning := message.get(name)) and reasoning.strip()), "")


_COVERED = {
    "train": "it is trained, and loss and bits per byte cover it.",
    "context": "it is read and not trained, and loss and bits per byte cover the answers alone.",
    "drop-history": "that of the last turn is trained and covered by loss and bits per byte, that of earlier turns is "
    "dropped.",
}


def reasoning_remark(rows: Sequence[Row], split: str, reasoning: Reasoning) -> list[str]:
    """Return what becomes of the reasoning in the rows of a split, and what figures cover; empty where none has any."""
    number = sum(any(map(reasoning_of, row.messages or ())) for row in rows)
    return [f"{number:,} of {len(rows):,} {split} records have reasoning: {_COVERED[reasoning]}"] if number else []


@cache
def _reasoning_key(template: str) -> str:
    # As an attribute or a key: in prose, or within another name, it is no place for the text.
    named = (name for name in REASONING_KEYS if re.search(rf"[.'\"]{name}\b", template))
    return next(named, REASONING_KEYS[0])


def drop_history(messages: list[dict[str, Any]]) -> set[int]:
    """Remove the reasoning before the last question, and return the indices of the messages that had some."""
    last_question = max((n for n, message in enumerate(messages) if message["role"] == "user"), default=0)
    dropped = {n for n, message in enumerate(messages[:last_question]) if reasoning_of(message)}
    for n in dropped:
        messages[n] = {key: value for key, value in messages[n].items() if key not in REASONING_KEYS}
    return dropped


def prepare_messages(messages: Sequence[dict[str, Any]], template: str) -> list[dict[str, Any]]:
    """Return the messages up to the last answer, with what templates take for granted.

    Content null is empty text, a developer is the system where the template knows no developer, and reasoning has the
    name that the template reads.
    """
    cleaned = []
    for message in messages[: last_answer(messages) + 1]:
        copy = {key: value for key, value in message.items() if value is not None and key not in TRAINING} | {
            "content": message["content"] or ""
        }
        if copy["role"] == "developer" and "developer" not in template:
            copy["role"] = "system"
        # OpenAI sends arguments as JSON text, which templates would quote a second time.
        if "tool_calls" in copy:
            copy["tool_calls"] = [_with_object(call) for call in copy["tool_calls"]]
        if not copy.keys().isdisjoint(REASONING_KEYS):
            reasoning = reasoning_of(copy)
            copy = {key: value for key, value in copy.items() if key not in REASONING_KEYS}
            copy |= {_reasoning_key(template): reasoning} if reasoning else {}
        cleaned.append(copy)
    if not cleaned[-1]["content"].strip() and not cleaned[-1].get("tool_calls"):
        raise RowFault("the last answer is empty, so nothing is trained")
    return cleaned


def all_texts(row: Row) -> Iterator[tuple[str, str]]:
    """Yield (where, text) of every text that reaches the tokens: contents, reasoning, roles, names, calls, tools."""
    if row.text is not None:
        yield "text", row.text
    for message in row.messages or ():
        if message["content"]:
            yield "content", message["content"]
        for key, value in message.items():
            if key != "content" and key not in TRAINING and value is not None:
                yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if row.tools:
        yield "tools", json.dumps(row.tools, ensure_ascii=False)


def _with_object(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(arguments, str):
        return call
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        raise RowFault("the arguments of a tool call are not JSON") from None
    return {**call, "function": {**call["function"], "arguments": value}}
