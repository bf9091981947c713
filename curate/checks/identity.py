"""Ids: each record needs one of its own, and no two may look or normalise alike."""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Callable, Iterator, Sequence

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


@dataset_check(
    "S104",
    "repeated-id",
    severity="error",
    is_about_ids=True,
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
class RepeatedId:
    """Two records have the same id.

    Labels, edits, splits and report lines are joined to a record by its id; with two records under one id they reach
    the wrong one. Give each record an id of its own, or leave ids out and let them be made from the content.
    """

    def __init__(self, settings: Settings) -> None:
        self._ids = EqualKeys()

    def see_all(self, sketches: Sketches) -> None:
        """Take note of some records."""
        rows = _own(sketches)
        self._ids.add(_keys(sketches, rows), sketches, rows)

    def finish(self) -> Iterator[DatasetProblem]:
        """Yield each record whose id an earlier one has."""
        for index, first in self._ids.pairs():
            message = f"this id is taken already, by the record at {self._ids.spot(first)}"
            yield _grouped(self._ids.problem(index, first, message, "/id"), str)


def _own(sketches: Sketches) -> list[int] | None:
    """Return the rows of the records that have an id of their own, None where all have."""
    if 0 not in sketches.have_own_ids:
        return None
    return [row for row, has_own_id in enumerate(sketches.have_own_ids) if has_own_id]


def _keys(sketches: Sketches, rows: Sequence[int] | None) -> array[int]:
    """Return the keys of the ids in ``rows``."""
    keys = sketches.id_keys
    return keys if rows is None else array("Q", [keys[row] for row in rows])


def _are_simple(ids: Sequence[str]) -> bool:
    """Whether all ids are printable ASCII without capital letters and blanks."""
    whole = "".join(ids)
    return whole.isascii() and whole.isprintable() and " " not in whole and whole == whole.lower()


def _grouped(problem: DatasetProblem, fold: Callable[[str], str]) -> DatasetProblem:
    """Return ``problem`` with a group that lasts: Python hashes text differently in every process."""
    return problem._replace(group=fold(problem.record).encode("utf-8", "surrogatepass"))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


class _AlikeIds:
    """Records whose ids become equal under a fold of their spelling although they are spelled differently."""

    def __init__(self, message: str, fold: Callable[[str], str], spell: Callable[[str], str] = str) -> None:
        # ``{}`` in the message becomes the place of the first of all.
        self._message, self._fold, self._spell = message, fold, spell
        self._folds = EqualKeys()
        self._spellings = array("Q")

    def see_all(self, sketches: Sketches) -> None:
        """Take note of some records."""
        rows = _own(sketches)
        ids = sketches.ids if rows is None else [sketches.ids[row] for row in rows]
        folds = spellings = _keys(sketches, rows)
        # Mostly no id is anything but small letters and digits of ASCII, which every fold leaves as it is.
        if not _are_simple(ids):
            folds, spellings = keys_of(map(self._fold, ids)), keys_of(map(self._spell, ids))
        self._folds.add(folds, sketches, rows)
        self._spellings.extend(spellings)

    def finish(self) -> Iterator[DatasetProblem]:
        """Yield the first record of each further spelling; a spelling that comes again is for S104 to report."""
        known: dict[int, set[int]] = {}
        for index, first in self._folds.pairs():
            spellings = known.setdefault(first, {self._spellings[first]})
            if (spelling := self._spellings[index]) not in spellings:
                spellings.add(spelling)
                problem = self._folds.problem(index, first, self._message.format(self._folds.spot(first)), "/id")
                yield _grouped(problem, self._fold)


@dataset_check(
    "S126",
    "id-normal-form",
    severity="error",
    is_about_ids=True,
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
class IdNormalForm(_AlikeIds):
    """Two ids are the same text in two Unicode spellings (composed and decomposed letters).

    Editors, file systems and git tools change one spelling into the other without a word, and the two records become
    one. Spell ids in normal form NFC, or better in ASCII.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__("this id is the one at {} in another Unicode spelling; write ids in NFC", _composed)


@dataset_check(
    "S123",
    "confusable-id",
    severity="warning",
    is_about_ids=True,
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
class ConfusableId(_AlikeIds):
    """Two ids look the same to a person but are not: a Cyrillic or Greek letter, a wide digit, a hidden character, or
    only blanks and the case of letters differ.

    Whoever reads a report or a review list takes one record for the other, and so do some file systems. Write ids in
    one script, best in ASCII, and in one case.
    """

    def __init__(self, settings: Settings) -> None:
        message = "this id looks like the one at {} but differs in characters, case or blanks"
        super().__init__(message, lambda name: skeleton(_composed(name)), _composed)
