"""Ids: each record needs one of its own, and no two may look or normalise alike."""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Callable, Iterator

from curate.checks import DatasetProblem, EqualKeys, Sketches, dataset_check, keys_of
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


class _EqualIds:
    """Records whose ids are equal, or become so under a fold of their spelling although they are spelled differently.

    ``{}`` in the message becomes the place of the first of all.
    """

    def __init__(self, message: str, fold: Callable[[str], str], spell: Callable[[str], str] | None = None) -> None:
        self._message, self._fold, self._spell = message, fold, spell
        self._folds = EqualKeys()
        self._spellings = array("Q")

    def see_all(self, sketches: Sketches) -> None:
        """Take note of some records, but those without an id of their own."""
        rows = [row for row, has_own_id in enumerate(sketches.have_own_ids) if has_own_id]
        ids = [sketches.ids[row] for row in rows]
        self._folds.add(keys_of(map(self._fold, ids)), sketches, rows if 0 in sketches.have_own_ids else None)
        if self._spell:
            self._spellings.extend(keys_of(map(self._spell, ids)))

    def finish(self) -> Iterator[DatasetProblem]:
        """Yield each record that repeats an id, or the first one of each further spelling of it."""
        known: dict[int, set[int]] = {}
        for index, first in self._folds.pairs():
            if self._spell:
                spellings = known.setdefault(first, {self._spellings[first]})
                if self._spellings[index] in spellings:
                    continue
                spellings.add(self._spellings[index])
            problem = self._folds.problem(index, first, self._message.format(self._folds.spot(first)), "/id")
            # A group that lasts: Python hashes text differently in every process.
            yield problem._replace(group=self._fold(problem.record).encode("utf-8", "surrogatepass"))


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
class RepeatedId(_EqualIds):
    """Two records have the same id.

    Labels, edits, splits and report lines are joined to a record by its id; with two records under one id they reach
    the wrong one. Give each record an id of its own, or leave ids out and let them be made from the content.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__("this id is taken already, by the record at {}", str)


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
class IdNormalForm(_EqualIds):
    """Two ids are the same text in two Unicode spellings (composed and decomposed letters).

    Editors, file systems and git tools change one spelling into the other without a word, and the two records become
    one. Spell ids in normal form NFC, or better in ASCII.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__("this id is the one at {} in another Unicode spelling; write ids in NFC", _composed, str)


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
class ConfusableId(_EqualIds):
    """Two ids look the same to a person but are not: a Cyrillic or Greek letter, a wide digit, a hidden character, or
    only blanks and the case of letters differ.

    Whoever reads a report or a review list takes one record for the other, and so do some file systems. Write ids in
    one script, best in ASCII, and in one case.
    """

    def __init__(self, settings: Settings) -> None:
        message = "this id looks like the one at {} but differs in characters, case or blanks"
        super().__init__(message, lambda name: skeleton(_composed(name)), _composed)
