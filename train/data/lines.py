"""Lines of strict JSON (no key twice, not nested too deeply), and plain files read as lines of an export.

A plain file is JSON Lines, Parquet or what `datasets` saves, in the forms that TRL documents. Each of its rows becomes
a line as `curate export` writes it, so that whatever follows knows one form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from train.base import console
from train.base.errors import TrainError, first_line
from train.base.storage import digest_of, open_file

MOST_LEVELS = 64
"""Levels of objects and lists that any value of a dataset or an answer may have."""
SliceValues = Mapping[str, Sequence[str | float]]
"""By the name of a slice, such as "/meta/language", the values that a record has there."""
SPLITS = ("train", "validation", "test")
_ANSWERS = {"dpo": ("chosen", "rejected"), "chat": ("messages",), "sft": ("completion",), "domain": ("text",)}
"""The columns of the answers by what they are fit to train; of a row that has several, the first ones are read."""
_NAME_SPLITS = (
    "Put train.jsonl, validation.jsonl and test.jsonl (or .parquet) into a folder, or name the split of each row in a "
    'column "split".'
)


def read_plain(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file or folder as lines of an export, whose types are not yet checked.

    Of each line "kind" is the objective that it is fit for, "source" its place, "split" None where none was supplied,
    and "cluster" a digest of what is asked first. Raises TrainError "E912 bad-dataset" with file and line.
    """
    lines: list[dict[str, Any]] = []
    places: dict[str, str] = {}
    root = path if path.is_dir() else path.parent
    for file, split in _files(path):
        for number, row in _rows(file, root):
            location = f"{file.relative_to(root)}:{number}"
            name = str(row.get("id", location if path.is_dir() else number))
            if (first := places.setdefault(name, location)) != location:
                refuse(location, f"the id {name!r} stands at {first}, too")
            lines.append({
                "id": name, "category": row.get("category") or "all", "tools": row.get("tools"), "source": location,
                "split": split or row.get("split"), **_content(row, location),
            })  # fmt: skip
    return lines


def choose_splits(path: Path, lines: Sequence[dict[str, Any]]) -> str:
    """Give each line its split, as it was supplied or else by the hash of its prompt; return in words which it was.

    Raises TrainError "E912 bad-dataset" where a prompt stands in two splits, or there are fewer than three.
    """
    if all(line["split"] in (None, "train") for line in lines):
        order = sorted({line["cluster"] for line in lines})
        if len(order) < 3:
            reason = "no manifest.json, and " if path.is_dir() else ""
            message = f"{path}: {reason}{len(order)} prompts are too few to train on and to measure"
            raise TrainError("E912 bad-dataset", message, f"Add records. {_NAME_SPLITS}")
        size = max(1, len(order) // 10)
        for line in lines:
            is_test, is_held_out = (line["cluster"] < order[end] for end in (size, 2 * size))
            line["split"] = "test" if is_test else "validation" if is_held_out else "train"
        return "split 80/10/10 by a hash of the prompt"
    first = {line["cluster"]: line for line in reversed(lines)}
    shared = []
    for line in lines:
        if line["split"] not in SPLITS:
            message = f"{line['source']}: its split is {line['split']}, and known are {', '.join(SPLITS)}"
            raise TrainError("E912 bad-dataset", message, _NAME_SPLITS)
        if (one := first[line["cluster"]])["split"] != line["split"]:
            shared.append(f"{one['source']} ({one['split']}) and {line['source']} ({line['split']})")
    if shared:
        message = f"{path}: {len(shared):,} rows ask what one of another split asks: {'; '.join(shared[:10])}"
        hint = "Leave one of each out, or give all rows without splits: a hash of the prompt then splits them."
        raise TrainError("E912 bad-dataset", message, hint)
    return "its splits were supplied"


def _files(path: Path) -> list[tuple[Path, str | None]]:
    """Each file of rows with the split that its name says, None where all have one name that is no split's."""
    if not path.is_dir():
        return [(path, None)]
    # `datasets` names its shards so; cache-*.arrow beside them is no part of the dataset.
    forms = ("*.jsonl", "*.parquet", "data-*.arrow", "*/data-*.arrow")
    files = sorted(file for form in forms for file in path.glob(form))
    names = [re.split("[-.]", (file if file.parent == path else file.parent).name)[0] for file in files]
    are_splits = len(set(names)) > 1 or names[:1] == ["train"]
    return [(file, name if are_splits else None) for file, name in zip(files, names, strict=True)]


def _rows(path: Path, root: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with open_file(path, root) as file:
            if path.suffix not in (".parquet", ".arrow"):
                for number, line in enumerate(file, 1):
                    if line.strip()[-1:] not in b"}":
                        raise ValueError(f"line {number} is no whole JSON object")
                    if line.strip():
                        yield number, parse_object(line, f"{path.relative_to(root)}:{number}")
                return
            # Comes with `datasets`, which the extra "train" has.
            from pyarrow import ipc, parquet

            table = parquet.read_table(file) if path.suffix == ".parquet" else ipc.open_stream(file).read_all()
            # Damage that is not looked for ends the process.
            table.validate(full=True)
            for number, row in enumerate(table.to_pylist(), 1):
                # What JSON cannot hold is no value, and no more is a null: structs have the keys of all rows.
                yield number, json.loads(json.dumps(row, default=lambda _: None), object_pairs_hook=_filled)
    # The last two are what pyarrow raises of damage, and of what it does not read.
    except (OSError, ValueError, RuntimeError) as error:
        hint = (
            "Mend the file where it is JSON Lines, Parquet or what `datasets` saved, which are read here. Of CSV, Excel"
            f" and such make a dataset: `curate init my-data --from {path}`, then `curate export my-data`, then "
            "name my-data/dataset/v1 here."
        )
        raise TrainError("E912 bad-dataset", f"{path}: {first_line(error)}", hint) from None


def _filled(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in pairs if value is not None}


def _content(row: dict[str, Any], location: str) -> dict[str, Any]:
    """What a row says, as a line of an export."""

    def turns(name: str) -> list[dict[str, Any]]:
        value = row.get(name)
        if isinstance(value, str) and name != "messages":
            return [{"role": "user" if name == "prompt" else "assistant", "content": value}]
        if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
            refuse(location, f"{name} must be {'' if name == 'messages' else 'text or '}a list of messages")
        return value

    kinds = (kind for kind, names in _ANSWERS.items() if all(row.get(name) is not None for name in names))
    kind = next(kinds, "")
    if not kind:
        names = ", ".join(name if value is not None else f"{name} (null)" for name, value in row.items())
        refuse(
            location,
            "a row has messages; prompt and completion; prompt, chosen and rejected; or text; "
            f"this one has {console.one_line(names[:200]) or 'nothing'}",
        )
    if kind == "domain":
        return {"kind": kind, "text": row["text"], "cluster": digest_of(str(row["text"]).split())}
    sides, prompt, ratings = list(map(turns, _ANSWERS[kind])), list[dict[str, Any]](), [1, 0] * (kind == "dpo")
    if kind == "dpo" and sides[0][0].get("role") != "assistant":
        # Whole conversations that begin alike; a prompt beside them says the same once more.
        end = next((n for n, (one, other) in enumerate(zip(*sides, strict=False)) if one != other), 0)
        prompt, sides = sides[0][:end], [side[end:] for side in sides]
    elif kind != "chat":
        prompt = turns("prompt")
    if kind == "sft" and isinstance(row.get("label"), bool):
        kind, ratings = "kto", [int(row["label"])]
    elif len(sides[0]) > 1 and kind != "dpo":
        kind = "chat"
    messages = [*prompt, *sides[0]]
    # Nobody learns a prompt, nor an answer that was not liked.
    end = len(messages if ratings == [0] else prompt)
    messages[:end] = [turn | {"train": False} if turn.get("role") == "assistant" else turn for turn in messages[:end]]
    # Conversations that begin with the same question stay together, however they go on.
    asked = next((n for n, turn in enumerate(messages, 1) if turn.get("role") == "user"), None)
    return {
        "kind": kind, "messages": messages,
        "cluster": digest_of([str(turn.get("content")).split() for turn in messages[:asked]]),
        "answers": [{"messages": side, "rating": own} for side, own in zip(sides, ratings, strict=False)] or None,
    }  # fmt: skip


def parse_object(raw: bytes, location: str) -> dict[str, Any]:
    """Return an object of strict JSON; raises TrainError "E912 bad-dataset" that names ``location``."""
    # JSON without duplicate keys, NaN or lone surrogates: other programs read the first two in another way, and the
    # last is other data after one save.

    def no_constants(name: str) -> NoReturn:
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=unique_members, parse_constant=no_constants)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
        if depth(value) > MOST_LEVELS:
            raise ValueError(f"nested deeper than {MOST_LEVELS} levels")
    except (ValueError, RecursionError) as error:
        refuse(location, str(error) or "nested too deeply")
    if not isinstance(value, dict):
        refuse(location, "not an object")
    return dict(value)


def text_of(line: bytes, key: str) -> str | None:
    """Return the text that a line has under ``key``, such as the id of a request; None where it has none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    text = value.get(key) if isinstance(value, dict) else None
    return text if isinstance(text, str) and text else None


def unique_members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of its members, as ``object_pairs_hook``; raises ValueError where a key stands twice."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return members


def levels(value: Any) -> Iterator[list[Any]]:
    """Yield a JSON value level by level, without recursion: the value itself, then its members, then theirs."""
    level = [value]
    while level:
        yield level
        holders = [node for node in level if isinstance(node, dict | list)]
        level = [inner for node in holders for inner in (node.values() if isinstance(node, dict) else node)]


def depth(value: Any) -> int:
    """Return how many levels of a value hold an object or a list; 0 for a text or a number."""
    return sum(any(isinstance(node, dict | list) for node in level) for level in levels(value))


def refuse(location: str, what: str) -> NoReturn:
    """Raise TrainError "E912 bad-dataset" about the line ``location``."""
    hint = "Fix this line; where `curate export` wrote it, fix its record and export again."
    raise TrainError("E912 bad-dataset", f"{location}: {what}", hint)
