"""General text, which has nothing to do with the dataset: its bits per byte, before and after, show forgetting."""

from __future__ import annotations

import json
import re
from io import TextIOWrapper
from pathlib import Path

from train.base.errors import TrainError
from train.base.storage import MOST_DOCUMENT, open_file
from train.data.dataset import Row, RowFault, TooLongFault
from train.data.rendering import Renderer

SPLIT = "general"
SHIPPED = Path(__file__).with_name("general.txt")
"""The text that is taken where a recipe names none."""
# Pieces of at most 1,000 characters: all that is left, up to the last blank of the second half, or through a word.
_PIECE = re.compile(r"(?s)\S(?:.{0,999}\Z|.{499,998}(?= )|.{999})")


def general_name(path: str | None) -> str:
    """Return what a report calls the text of a recipe's eval.general; None is the shipped one."""
    return f"the built-in {SHIPPED.name}" if path is None else path


def general_rows(path: Path | None = None) -> list[Row]:
    """Return the general slice as raw-text rows: the file's, or without one the 24 paragraphs that we ship.

    A ``.jsonl`` file has a "text" in each line, and may have the "part" that it belongs to, which is judged by itself;
    any other file is plain text whose documents are parted by blank lines. Documents over 1,000 characters are cut into
    pieces between words. Raises TrainError: E944 bad-general-text with file and line.
    """
    source, at, documents = path or SHIPPED, "", list[tuple[str, str]]()
    try:
        with TextIOWrapper(open_file(source.resolve(), most=MOST_DOCUMENT), encoding="utf-8") as file:
            text = file.read()
        if source.suffix != ".jsonl":
            documents = [(document, "") for document in text.split("\n\n")]
        else:
            for number, line in enumerate(text.split("\n"), start=1):
                at = f":{number}"
                if line.strip():
                    value = json.loads(line)
                    documents.append((value["text"], value.get("part", "")))
                    "".join(documents[-1]).encode()
        at, documents = "", [document for document in documents if document[0].strip()]
        if not documents:
            raise ValueError("no text in it")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        hint = 'Name a text file in UTF-8 with eval.general, or one whose lines are objects with a "text".'
        fault = getattr(error, "strerror", None) or error
        raise TrainError("E944 bad-general-text", f"{source}{at}: {fault}", hint) from error
    # Pieces of one document are no independent evidence, so they share a cluster.
    return [
        Row(f"{SPLIT}-{number:04d}-{index}", part, f"{SPLIT}-{number:04d}", None, None, piece, source.name)
        for number, (document, part) in enumerate(documents, start=1)
        for index, piece in enumerate(_PIECE.findall(document.strip()), start=1)
    ]


def readable_general(renderer: Renderer, general: Path | None) -> list[Row]:
    """Return the general text of the recipe's file (None: the shipped one) that is not too long for the model.

    Raises TrainError: E944 bad-general-text, E924 control-token-in-data.
    """
    readable = []
    for row in general_rows(general):
        try:
            renderer.render_row(row)
            readable.append(row)
        except TooLongFault:
            continue
        except RowFault as fault:
            raise TrainError(fault.code, f"general text {row.id} of {row.source}: {fault.reason}", fault.hint) from None
    return readable
