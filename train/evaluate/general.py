"""Text that has nothing to do with the data set: its bits per byte, before and after, show what a model forgot."""

from __future__ import annotations

import json
from io import TextIOWrapper
from pathlib import Path

from train.base.errors import TrainError
from train.base.file_guard import MOST_DOCUMENT, open_file
from train.data.dataset import Row

SPLIT = "general"
SHIPPED = Path(__file__).with_name("general.txt")
"""The text that is taken where a recipe names none."""
_LONGEST = 1000


def general_name(path: str | None) -> str:
    """Return what a report calls the text of a recipe's eval.general; None is the shipped one."""
    return f"the built-in {SHIPPED.name}" if path is None else path


def general_rows(path: Path | None = None) -> list[Row]:
    """Return the general slice as raw-text rows: the file's, or without one the 24 paragraphs that we ship.

    A ``.jsonl`` file has a "text" in each line; any other file is plain text whose documents are parted by blank lines.
    Documents over 1,000 characters are cut into pieces between words; the pieces of one document share a cluster.

    Raises:
        TrainError: E944 bad-general-text with file and line.
    """
    source = path or SHIPPED
    try:
        with TextIOWrapper(open_file(source.resolve(), most=MOST_DOCUMENT), encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainError("E944 bad-general-text", f"{source}: {error}", "eval.general names a text file.") from error
    documents = _lines(text, source) if source.suffix == ".jsonl" else text.split("\n\n")
    rows = []
    for number, document in enumerate((document for document in documents if document.strip()), start=1):
        cluster = f"{SPLIT}-{number:04d}"
        for part, piece in enumerate(_pieces(document.strip()), start=1):
            rows.append(Row(f"{cluster}-{part}", "", cluster, None, None, piece, source.name))
    if not rows:
        raise TrainError("E944 bad-general-text", f"{source}: no text in it", "Without eval.general ours is used.")
    return rows


def _lines(text: str, source: Path) -> list[str]:
    documents = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)["text"]
            document.encode("utf-8")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise TrainError(
                "E944 bad-general-text",
                f'{source}:{number}: not an object with a "text": {error}',
                "Each line is a JSON object whose text is a string.",
            ) from error
        documents.append(document)
    return documents


def _pieces(document: str) -> list[str]:
    pieces = []
    while len(document) > _LONGEST:
        cut = document.rfind(" ", _LONGEST // 2, _LONGEST)
        cut = _LONGEST if cut < 0 else cut
        pieces.append(document[:cut])
        document = document[cut:].lstrip()
    return [*pieces, document] if document else pieces
