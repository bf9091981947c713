"""Plain files, read as lines of an export.

A plain file is JSON Lines, Parquet or what `datasets` saves, in the forms that TRL documents. Each of its rows becomes
a line as `curate export` writes it, so that whatever follows knows one form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from train.base import console
from train.base.console import typed
from train.base.errors import TrainError, first_line
from train.base.storage import digest_of, open_file
from train.base.strict_json import parse_object, raise_bad_dataset

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
    location_by_id: dict[str, str] = {}
    root = path if path.is_dir() else path.parent
    for file, split in _files(path):
        for number, row in _rows(file, root):
            location = f"{file.relative_to(root)}:{number}"
            name = str(row.get("id", location if path.is_dir() else number))
            if (first := location_by_id.setdefault(name, location)) != location:
                raise_bad_dataset(location, f"the id {name!r} stands at {first}, too")
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
        message = f"{path}: prompts that are in more than one split ({len(shared):,}): {'; '.join(shared[:10])}"
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
            f" and such make a dataset: `curate init my-data {typed(path)}`, then `curate export my-data`, then "
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
            raise_bad_dataset(location, f"{name} must be {'' if name == 'messages' else 'text or '}a list of messages")
        return value

    kinds = (kind for kind, names in _ANSWERS.items() if all(row.get(name) is not None for name in names))
    kind = next(kinds, "")
    if not kind:
        names = ", ".join(name if value is not None else f"{name} (null)" for name, value in row.items())
        raise_bad_dataset(
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
    num_prompt_turns = next((n for n, turn in enumerate(messages, 1) if turn.get("role") == "user"), None)
    return {
        "kind": kind, "messages": messages,
        "cluster": digest_of([str(turn.get("content")).split() for turn in messages[:num_prompt_turns]]),
        "answers": [{"messages": side, "rating": rating} for side, rating in zip(sides, ratings, strict=False)] or None,
    }  # fmt: skip
