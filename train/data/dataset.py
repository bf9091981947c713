"""An exported dataset: opened with every digest recomputed, each row read strictly, and what a row's messages mean.

A row is checked once, here. Whoever gets a `Row` may rely on its types, and only asks for what it says: which messages
are answers, what their tokens weigh, which texts reach the tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from heapq import nsmallest
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.base import console
from train.base.errors import TrainError
from train.base.file_guard import MOST_DOCUMENT, FileGuardError, hint_of, read_file
from train.base.storage import digest_of
from train.data.lines import Lines
from train.data.plain import SPLITS, choose_splits, read_plain
from train.data.strict import SliceValues, parse_object, read_slices, refuse

if TYPE_CHECKING:
    from train.recipe import Objective, Reasoning


MANIFEST = "manifest.json"
VERSION = 1
"""The version of manifests that is read here."""
MOST_WEIGHT = 1000
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_EXPORT_AGAIN = "Export the dataset again; a run uses no row that the manifest does not vouch for."
TRAINING = {"train": True, "weight": 1}
"""What a message says about its training, by default; no template and no model sees it."""
TRACES = ("reasoning_content", "thinking", "reasoning")
"""What messages and chat templates call the reasoning before an answer; an export writes the first."""


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
    def name(self) -> tuple[str, str, str]:
        """Id, category and cluster, which travel with the tokens into the report."""
        return self.id, self.category, self.cluster

    @cached_property
    def key(self) -> int:
        """A digest of all that is rendered of the row, by which its example is found again: 64 bits, with a sign."""
        values = (*self.name, self.messages, self.tools, self.text, self.weight, self.first_answer)
        text = json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)

    @property
    def first_answer(self) -> int | None:
        """The index of the first message of a preference's answer; None of other rows."""
        return len(self.messages or ()) - len(self.answers[0].messages) if self.answers else None

    @cached_property
    def worse(self) -> Row | None:
        """The row with the worst of the answers that it compares; None where none is better than another."""
        if len(self.answers) < 2 or self.answers[0].rating == self.answers[-1].rating:
            return None
        messages = [*(self.messages or ())[: self.first_answer], *self.answers[-1].messages]
        return replace(self, messages=messages, answers=self.answers[-1:])

    @property
    def unmasked(self) -> Row:
        """The row with its answer unmasked where that was not liked, as who learns from verdicts reads it."""
        if self.is_liked is not False:
            return self
        return replace(self, messages=[*(self.messages or ())[: self.first_answer], *self.answers[0].messages])

    @property
    def is_liked(self) -> bool | None:
        """The verdict on an answer that stands alone; None of other rows."""
        return self.answers[0].rating > 0 if len(self.answers) == 1 else None


@dataclass(frozen=True)
class Dataset:
    """A verified export: its manifest, its rows by split, and the SHA-256 of its manifest.

    Training rows, of which there may be a million, are read when they are asked for. Plain files have a manifest that
    was made here, and the SHA-256 of what their rows say.
    """

    path: Path
    manifest: dict[str, Any]
    splits: Mapping[str, Sequence[Row]]
    digest: str
    remarks: Sequence[str] = ()
    """What a report says of where the records come from."""

    def flagged(self) -> frozenset[str]:
        """Return the ids of the records that have personal data, secrets or the like in them, by findings X7xx.

        Raises TrainError "E912 bad-dataset" where there are such findings, and an earlier version did not say where.
        """
        return _flagged_in(self.manifest, self.path / MANIFEST)


def read_flagged(rows: Path) -> frozenset[str]:
    """Return what `Dataset.flagged` does, for a file of rows that lies beside a manifest; without one there are none.

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

    A plain file, or a folder without a manifest, is read as `train.data.plain` says. Raises TrainError "E911
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
    # Digests come first: nothing of a file that is not the manifest's is even parsed.
    files = manifest.get("files")
    if not isinstance(files, dict) or not isinstance(manifest.get("categories", {}), dict):
        raise TrainError("E912 bad-dataset", f"{manifest_path}: no table of files and categories")
    splits: dict[str, Sequence[Row]] = {}
    for split in SPLITS:
        name = f"{split}.jsonl"
        if name in files:
            splits[split] = _read_rows(folder / name, files[name])
        # A split that somebody put there by hand would be trained on, or be the exam, without a trace.
        elif (folder / name).exists():
            raise TrainError("E911 dataset-changed", f"{folder / name} is not in the manifest", _EXPORT_AGAIN)
        else:
            splits[split] = []
    _check_unique_ids(splits)
    # The exam is read many times.
    splits |= {split: list(splits[split]) for split in ("validation", "test")}
    return Dataset(folder, manifest, splits, hashlib.sha256(raw).hexdigest())


def _open_plain(path: Path) -> Dataset:
    lines, name = read_plain(path), path.resolve().name
    rows = [row_of(line, line["source"]) for line in lines]
    kinds = {line["kind"]: line["source"] for line in reversed(lines)}
    # What is not trained of a prompt and completion is marked, so that "chat" trains the same.
    if len(kinds) > 1 and kinds.keys() != {"chat", "sft"}:
        refuse(str(path), f"a dataset has rows of one objective, and this one has {kinds}")
    remark = f"Not vouched for: {name} is no export of `curate`, so that nobody reviewed it or looked for repeats"
    remark = f"{remark}; {choose_splits(path, lines)}."
    if any(line["is_text"] for line in lines):
        remark += " Prompts and answers that are text become turns of the chat template."
    # Known again by what the rows say, wherever they lie.
    digest = digest_of([line | {"source": ""} for line in lines])
    splits = {split: [row for row, line in zip(rows, lines, strict=True) if line["split"] == split] for split in SPLITS}
    console.info(f"{remark} {', '.join(f'{len(part):,} {split}' for split, part in splits.items())}")
    if not splits["validation"]:
        console.info("warning: there is no validation split: no step is chosen, and eval_steps does nothing")
    manifest = {
        "name": name, "objective_hint": min(kinds),
        "categories": {row.category: {} for row in rows},
        "files": {f"{split}.jsonl": {"sha256": f"{digest} {split}"} for split in SPLITS},
    }  # fmt: skip
    return Dataset(path, manifest, splits, digest, [remark])


def open_same_dataset(record: dict[str, Any], moved: Path | None) -> Dataset:
    """Return the dataset of a run, which may have ``moved``.

    Raises TrainError: E911 dataset-changed, E912 bad-dataset.
    """
    recorded = record.get("dataset")
    path = moved or Path(str(recorded.get("path")) if isinstance(recorded, dict) else "")
    if not path.exists():
        raise TrainError(
            "E912 bad-dataset", f"the run's dataset {path} is not there", "Say where it is now with --dataset."
        )
    opened = open_dataset(path)
    if not isinstance(recorded, dict) or opened.digest != recorded.get("sha256"):
        raise TrainError(
            "E911 dataset-changed", f"{path} is not the dataset of the run", "Name the right one with --dataset."
        )
    return opened


def sample_rows(rows: Iterable[Row], most: int) -> list[Row]:
    """Return at most ``most`` rows by the hash of their ids: the same ones whatever their order and number."""
    # A run that is resumed, or made again after records were added, evaluates the same sample.
    if isinstance(rows, Lines):
        return rows.sample(most)
    return nsmallest(most, rows, key=lambda row: hash_of(row.id))


def hash_of(record: str) -> bytes:
    """Return the hash of an id by which samples are taken."""
    return hashlib.sha256(record.encode()).digest()


def key_of(record: str) -> int:
    """Return the first 8 bytes of that hash as a number."""
    return int.from_bytes(hash_of(record)[:8], "big")


def _read(path: Path, hint: str) -> bytes:
    try:
        return read_file(path, most=MOST_DOCUMENT)
    except OSError as error:
        raise TrainError("E912 bad-dataset", f"{path}: {error.strerror}", hint_of(error, hint)) from None


def _read_rows(path: Path, entry: Any) -> Lines[Row]:
    size = entry.get("bytes") if isinstance(entry, dict) else None
    if type(size) is not int:
        raise TrainError("E912 bad-dataset", f"{MANIFEST}: {path.name} has no number of bytes", _EXPORT_AGAIN)
    # The size is checked before a byte is read: a file that grew is not the one that the manifest describes.
    try:
        rows = Lines(path, size, _row_at)
    except FileGuardError as error:
        raise TrainError("E911 dataset-changed", f"{path}: {error}", error.hint) from None
    except OSError as error:
        raise TrainError("E912 bad-dataset", f"{path}: {error.strerror}", _EXPORT_AGAIN) from None
    if entry.get("sha256") != rows.sha256:
        raise TrainError("E911 dataset-changed", f"{path}: the SHA-256 is not the manifest's", _EXPORT_AGAIN)
    for index, number, line in rows.raw():
        rows.keys[index] = key_of(read_row(line.removesuffix(b"\n"), f"{path.name}:{number}").id)
    if entry.get("records", len(rows)) != len(rows):
        raise TrainError(
            "E911 dataset-changed", f"{path}: {len(rows)} rows, the manifest says {entry['records']}", _EXPORT_AGAIN
        )
    return rows


def _row_at(line: bytes, rows: Lines[Row], index: int) -> Row:
    # What was read strictly before needs no second look.
    return _proved_row(json.loads(line.decode()), rows.path.name)


def read_row(line: bytes, location: str) -> Row:
    """Return the row that a line holds; ``location`` names the line. Raises TrainError "E912 bad-dataset"."""
    return row_of(parse_object(line, location), location)


def row_of(value: dict[str, Any], location: str) -> Row:
    """Return the row that an object says, as `read_row` does."""
    for key in ("id", "kind", "category", "cluster"):
        if not isinstance(value.get(key), str):
            refuse(location, f"{key} must be text")
    if not value["id"]:
        refuse(location, "id is empty")
    messages, text, tools = value.get("messages"), value.get("text"), value.get("tools")
    if (messages is None) == (text is None):
        refuse(location, f"record {value['id']!r} needs either messages or text")
    if text is not None and not isinstance(text, str):
        refuse(location, "text must be text")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        refuse(location, "tools must be a list of objects")
    if messages is not None:
        _check_messages(messages, location)
    weight = value.get("weight")
    if weight is not None and not _is_weight(weight):
        refuse(location, f"weight must be a number from 0 to {MOST_WEIGHT}")
    return _proved_row(value, location)


def _proved_row(value: dict[str, Any], location: str) -> Row:
    messages, source, weight = value.get("messages"), value.get("source"), value.get("weight")
    # Other exporters leave content out where there are tool calls; from here on every message has one.
    for message in messages or ():
        message.setdefault("content", None)
    return Row(
        value["id"], value["category"], value["cluster"] or value["id"], messages, value.get("tools") or None,
        value.get("text"), source if isinstance(source, str) else "", 1.0 if weight is None else float(weight),
        _answers(value.get("answers"), messages, location),
        read_slices(value["slices"], location) if "slices" in value else None,
    )  # fmt: skip


def _answers(values: Any, messages: Any, location: str) -> tuple[RatedAnswer, ...]:
    if values is None:
        return ()
    if not isinstance(values, list) or not values or not all(isinstance(value, dict) for value in values):
        refuse(location, "answers must be a list of objects, at least one")
    for value in values:
        _check_messages(value.get("messages"), location)
        rating = value.get("rating")
        if not isinstance(rating, int | float) or isinstance(rating, bool):
            refuse(location, "the rating of an answer must be a number")
    answers = tuple(RatedAnswer(value["messages"], float(value["rating"])) for value in values)
    best = answers[0].messages
    if not messages or len(messages) <= len(best) or _unmarked(messages[-len(best) :]) != _unmarked(best):
        refuse(location, "the messages must end with the first of the answers, after a question")
    if any(before.rating < after.rating for before, after in pairwise(answers)):
        refuse(location, "the answers must stand in the order of their ratings, the best first")
    return answers


def _unmarked(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    # An answer that was not liked is marked so that nobody learns it.
    return [{key: value for key, value in message.items() if key not in TRAINING} for message in messages]


def _check_messages(messages: Any, location: str) -> None:
    if not isinstance(messages, list) or not messages:
        refuse(location, "messages must be a list with at least one message")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            refuse(location, f"messages[{number}].role must be one of {', '.join(sorted(ROLES))}")
        # Of an answer, too, each message has one from here on.
        if not isinstance(message.setdefault("content", None), str | None):
            refuse(location, f"messages[{number}].content must be text or null")
        calls = message.get("tool_calls")
        if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
            refuse(location, f"messages[{number}].tool_calls must be a list of objects")
        is_trained, weight = message.get("train"), message.get("weight")
        if not isinstance(is_trained, bool | None):
            refuse(location, f"messages[{number}].train must be true or false")
        if weight is not None and not _is_weight(weight):
            refuse(location, f"messages[{number}].weight must be a number from 0 to {MOST_WEIGHT}")
        if message["role"] != "assistant" and (is_trained or weight):
            refuse(
                location,
                f"messages[{number}]: only what the assistant says is trained, so train and weight are its own",
            )
        for name in TRACES:
            if not isinstance(message.get(name), str | None):
                refuse(location, f"messages[{number}].{name} must be text or null")
        if message["role"] != "assistant" and trace_of(message):
            refuse(location, f"messages[{number}]: only the assistant's messages have reasoning")


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_WEIGHT


def _check_unique_ids(splits: Mapping[str, Sequence[Row]]) -> None:
    # Feedback and reports name a record by its id alone, and a record of two splits would be its own exam.
    keys = {split: rows.keys for split, rows in splits.items() if isinstance(rows, Lines)}
    known, counts = np.unique(np.concatenate([*keys.values(), np.empty(0, np.uint64)]), return_counts=True)
    split_of: dict[str, str] = {}
    for split, own in keys.items():
        for index in np.flatnonzero(np.isin(own, known[counts > 1])).tolist():
            row = splits[split][index]
            if row.id in split_of:
                raise TrainError(
                    "E912 bad-dataset", f"record {row.id!r} stands in {split_of[row.id]} and again in {split}"
                )
            split_of[row.id] = split


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


def answer_weights(messages: Sequence[dict[str, Any]], answers: Sequence[int]) -> list[float]:
    """Return what the tokens of each answer count: its "weight", 1 without one, and 0 where "train" is false.

    Raises NoTrainedAnswer where all are 0.
    """
    weights = [weight_of(messages[turn]) for turn in answers]
    # Set aside and counted, not refused: the owner of the data said so with a mark.
    if not any(weights):
        raise NoTrainedAnswer("no answer of the record may be trained (train is false, or the weight is 0)")
    return weights


def weight_of(answer: dict[str, Any]) -> float:
    """Return what the tokens of one answer count."""
    return 0.0 if answer.get("train") is False else float(_or(answer.get("weight"), 1.0))


def refuse_marks(messages: Sequence[dict[str, Any]]) -> None:
    """Raise RowFault where a message says how it is trained: the objective "domain" trains all tokens alike."""
    if any(_or(message.get(key), default) != default for message in messages for key, default in TRAINING.items()):
        raise RowFault("a message has a train flag or a weight, and the objective domain trains all tokens alike")


def notes_of(row: Row) -> list[str]:
    """Return what of a row's messages no renderer gives to the template, in words: what follows the last answer."""
    role = row.messages[-1]["role"] if row.messages else "assistant"
    return [] if role == "assistant" else [f"what follows the last answer (a turn of the {role}) is not trained"]


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


def trace_of(message: Mapping[str, Any]) -> str:
    """Return the reasoning before an answer, "" where there is none that can be read."""
    return next((trace for name in TRACES if (trace := message.get(name)) and trace.strip()), "")


_COVERED = {
    "train": "it is trained, and loss and bits per byte cover it.",
    "context": "it is read and not trained, and loss and bits per byte cover the answers alone.",
    "drop-history": "that of the last turn is trained and covered by loss and bits per byte, that of earlier turns is "
    "dropped.",
}


def reasoning_remark(rows: Sequence[Row], split: str, reasoning: Reasoning) -> list[str]:
    """Return what becomes of the reasoning in the rows of a split, and what figures cover; empty where none has any."""
    number = sum(any(map(trace_of, row.messages or ())) for row in rows)
    return [f"{number:,} of {len(rows):,} {split} records have reasoning: {_COVERED[reasoning]}"] if number else []


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
