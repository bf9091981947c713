"""Ids: each record needs one of its own, and no two may look or normalise alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator

from curate.checks import DatasetProblem, Sketches, dataset_check, repeats
from curate.schema.settings import Settings

# Letters of Cyrillic, Greek, Armenian and Cherokee, and signs, that most fonts draw as a Latin letter or as ASCII.
# Widths, ligatures and mathematical letters are folded by NFKC before this table is asked.
_LOOKALIKES = str.maketrans(
    "АВЕЅЗІЈКМНОРСТУХЬаеѕіјорсухһԁԛԝгпкьӀӏѵ"
    + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧανιορυχκ"
    + "ՕՍհոսցօ"
    + "ᎪᏴᏟᎠᎬᎻᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃ"
    + "ıɑɡɩℓ"
    + "‐‑‒–—−﹘⁃"
    + "‘’ʼʹ′`´"
    + "⁄∕⧸"
    + "․‧·"
    + "꞉∶ː"
    + "∣ǀ",
    "ABES3IJKMHOPCTYXbaesijopcyxhdqwrnkbllv"
    + "ABEZHIKMNOPTYXaviopuxk"
    + "OUhnugo"
    + "ABCDEHJKLMPRSTVWZ"
    + "iagil"
    + "--------"
    + "'''''''"
    + "///"
    + "..."
    + ":::"
    + "||",
)
_BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def skeleton(name: str) -> str:
    """Return ``name`` as a reader remembers it: known look-alike letters as the Latin ones, without case and blanks."""
    # A small own table in the manner of Unicode Technical Standard 39; invisible format characters count for nothing.
    if name.isascii():
        return "".join(name.split()).lower()
    folded = unicodedata.normalize("NFKC", name).translate(_LOOKALIKES)
    return "".join(c for c in folded if not c.isspace() and not _is_invisible(c)).casefold()


def _is_invisible(character: str) -> bool:
    is_selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return is_selector or character in _BLANK_LETTERS or unicodedata.category(character) == "Cf"


def _equal_ids(
    sketches: Sketches, message: str, fold: Callable[[str], str], spell: Callable[[str], str] | None = None
) -> Iterator[DatasetProblem]:
    """Yield each record whose id becomes that of an earlier one under ``fold``.

    With ``spell`` it is the first record of each further spelling of that id. ``{}`` in the message becomes the place
    of the first of all. Records without an id of their own are not compared.
    """
    ids, known = sketches.ids, dict[int, set[str]]()
    # An id that folds to nothing is one all the same.
    folds: list[tuple[str, ...]] = [
        (fold(name),) if is_own else () for name, is_own in zip(ids, sketches.have_own_ids, strict=True)
    ]
    for row, first in repeats(folds):
        if spell:
            spellings = known.setdefault(first, {spell(ids[first])})
            if (spelling := spell(ids[row])) in spellings:
                continue
            spellings.add(spelling)
        group = folds[row][0].encode("utf-8", "surrogatepass")
        yield sketches.problem(row, message.format(sketches.spot(first)), "/id", other=first, group=group)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


@dataset_check(
    "S104",
    "repeated-id",
    severity="error",
    good=[
        [
            {"id": "a1", "instruction": "Add 2 and 3.", "output": "5"},
            {"id": "a2", "instruction": "Add 1.", "output": "1"},
        ],
        [{"instruction": "Add 2 and 3.", "output": "5"}, {"instruction": "Add 2 and 3.", "output": "5"}],
    ],
    bad=[
        [{"id": "a1", "instruction": "Add 2 and 3.", "output": "5"}, {"id": "a1", "instruction": "Hi", "output": "Ho"}]
    ],
)
def repeated_id(sketches: Sketches, settings: Settings) -> Iterator[DatasetProblem]:
    """Two records have the same id.

    Labels, edits, splits and report lines are joined to a record by its id; with two records under one id they reach
    the wrong one. Give each record an id of its own, or leave ids out and let them be made from the content.
    """
    return _equal_ids(sketches, "this id is taken already, by the record at {}", str)


@dataset_check(
    "S126",
    "id-normal-form",
    severity="error",
    good=[
        [{"id": "café", "instruction": "Add 2.", "output": "5"}, {"id": "cafe", "instruction": "Add 1.", "output": "1"}]
    ],
    bad=[
        [
            {"id": "caf\u00e9", "instruction": "Add 2 and 3.", "output": "5"},
            {"id": "cafe\u0301", "instruction": "Add 1.", "output": "1"},
        ]
    ],
)
def id_normal_form(sketches: Sketches, settings: Settings) -> Iterator[DatasetProblem]:
    """Two ids are the same text in two Unicode spellings (composed and decomposed letters).

    Editors, file systems and git tools change one spelling into the other without a word, and the two records become
    one. Spell ids in normal form NFC, or better in ASCII.
    """
    message = "this id is the one at {} in another Unicode spelling; write ids in NFC"
    return _equal_ids(sketches, message, _composed, str)


@dataset_check(
    "S123",
    "confusable-id",
    severity="warning",
    good=[
        [{"id": "rec1", "instruction": "Add 2.", "output": "5"}, {"id": "rec2", "instruction": "Add 1.", "output": "1"}]
    ],
    bad=[
        [
            {"id": "paper", "instruction": "Add 2 and 3.", "output": "5"},
            {"id": "p\u0430per", "instruction": "Add 1.", "output": "1"},
        ],
        [
            {"id": "r1", "instruction": "Add 2.", "output": "5"},
            {"id": "r\uff11", "instruction": "Add 1.", "output": "1"},
        ],
        [
            {"id": "r1", "instruction": "Add 2.", "output": "5"},
            {"id": "R 1", "instruction": "Add 1.", "output": "1"},
        ],
    ],
)
def confusable_id(sketches: Sketches, settings: Settings) -> Iterator[DatasetProblem]:
    """Two ids look the same to a person but are not: a Cyrillic or Greek letter, a wide digit, a hidden character, or
    only blanks and the case of letters differ.

    Whoever reads a report or a review list takes one record for the other, and so do some file systems. Write ids in
    one script, best in ASCII, and in one case.
    """
    message = "this id looks like the one at {} but differs in characters, case or blanks"
    return _equal_ids(sketches, message, lambda name: skeleton(_composed(name)), _composed)
