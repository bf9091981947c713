"""The baseline: old findings that are known, counted and forgiven, so that only new ones fail."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from curate.base.console import one_line
from curate.base.file_guard import MOST_DOCUMENT, hint_of, read_file
from curate.base.record import CurateError, Json, canonical
from curate.schema.settings import Settings

_NO_CONTENT = "x-ignore"

_CODE = re.compile(r"[A-Z][0-9]{3}")
_RECORD = re.compile(r"[0-9a-f]{16}")
_MOST = 2**32 - 1
_HINT = "Restore it from git, or move it away and write a new one with --update-baseline."
# What refuses an export whatever its number: an exam that is given away is no old finding that one may live with.
UNFORGIVEN = frozenset({"P501", "P504"})


# Each entry says how often a code may be found on content with one fingerprint. Content, not place: moved lines stay
# forgiven, an edited record has to answer for itself.


def fingerprint_of_value(value: Mapping[str, Json]) -> int:
    """Return the fingerprint of a line's object: spacing and the order of keys do not count, nor what it excuses."""
    return _digest(b"v", canonical({key: item for key, item in value.items() if key != _NO_CONTENT}))


def fingerprint_of_raw(raw: bytes) -> int:
    """Return the fingerprint of a line that is no object."""
    return _digest(b"r", raw.strip())


def fingerprint_of_file(name: str) -> int:
    """Return the fingerprint of what is wrong with a whole file, by its name relative to the workspace."""
    return _digest(b"f", name.encode("utf-8", "surrogatepass"))


def fingerprint_of_group(common: bytes) -> int:
    """Return the fingerprint of records that are at odds, by what they have in common."""
    return _digest(b"g", common)


def fingerprint_of_set(category: str) -> int:
    """Return the fingerprint of what is wrong with the data set as a whole, or with one category of it."""
    return _digest(b"s", category.encode("utf-8", "surrogatepass"))


def _digest(kind: bytes, content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8, person=kind).digest(), "big")


@dataclass
class Changed:
    """What an update did to a baseline: findings it holds now, those that are new in it, and those that went."""

    num_findings: int
    num_new: int
    num_mended: int


class Baseline:
    """The findings of a baseline file by code and fingerprint, and how many of each have been seen in this run.

    With ``is_update`` every finding is forgiven and noted, to be written; that takes about 100 bytes for each one.
    """

    def __init__(self, entries: Mapping[str, Mapping[int, int]] | None = None, *, is_update: bool = False) -> None:
        self.is_update = is_update
        self._counts = {code: dict(counts) for code, counts in (entries or {}).items()}
        self._left = {code: dict(counts) for code, counts in self._counts.items()}
        self._noted: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def holds(self, code: str, fingerprint: int) -> bool:
        """Whether a finding may be an old one; how many there are of it is for `settle` to say."""
        return code not in UNFORGIVEN and (self.is_update or fingerprint in self._counts.get(code, ()))

    def settle(self, code: str, fingerprint: int, number: int) -> int:
        """Return how many of ``number`` findings that it `holds` are old, and take those off what is left of them."""
        left = self._left.get(code, {})
        if old := min(number, left.get(fingerprint, 0)):
            left[fingerprint] -= old
        if self.is_update:
            self._noted[code][fingerprint] += number
        return number if self.is_update else old

    def num_mended(self, codes: Collection[str]) -> int:
        """Return how many findings of ``codes`` the baseline holds that were not seen in this run."""
        return sum(sum(left.values()) for code, left in self._left.items() if code in codes)

    def updated(self, codes: Collection[str]) -> tuple[list[bytes], Changed]:
        """Return the lines of the file after this run, and what changed; codes that did not run stay as before."""
        # Sorted, with one entry a line, so that a version control system shows and merges it well.
        new: dict[str, Mapping[int, int]] = {**self._noted}
        new |= {code: counts for code, counts in self._counts.items() if code not in codes}
        total, before = (sum(sum(each.values()) for each in counts.values()) for counts in (new, self._counts))
        num_mended = self.num_mended(codes)
        return list(_written(new)), Changed(total, total - (before - num_mended), num_mended)


def baseline_path(settings: Settings, root: Path | None) -> Path | None:
    """Return where the baseline that the settings name lies, None where they name none.

    Raises:
        CurateError: E902 when it leads out of the workspace.
    """
    name = settings.checks.baseline
    if not name or root is None:
        return None
    # A name with a NUL in it leads nowhere.
    if "\0" in name or not (root / name).resolve().is_relative_to(root.resolve()):
        raise CurateError("E902 bad-settings", f"checks.baseline: {name!r} leads out of the workspace")
    return root / name


def read_baseline(path: Path, *, is_update: bool = False, without: Collection[str] = ()) -> Baseline:
    """Read the baseline at ``path``; one that is to be updated need not be there yet.

    Entries of the codes in ``without`` are left out: such findings are not forgiven.

    Raises:
        CurateError: E904 when there is none, E956 when the file is no baseline, which is never written over.
    """
    if is_update and not path.exists():
        return Baseline(is_update=True)
    try:
        document = json.loads(read_file(path.resolve(), most=MOST_DOCUMENT))
    except OSError as error:
        message = f"the baseline {one_line(str(path))} cannot be read: {error.strerror}"
        remedy = "Make one with `curate validate --update-baseline`, or B in Validate."
        raise CurateError("E904 no-such-file", message, hint_of(error, remedy)) from error
    # Bytes that are not UTF-8 and numbers of 5,000 digits are ValueErrors like bad JSON; lists can nest without end.
    except (ValueError, RecursionError) as error:
        message = f"{one_line(str(path))} is no baseline: {one_line(str(error))}"
        raise CurateError("E956 bad-baseline", message, _HINT) from error
    entries = {code: counts for code, counts in _entries(document, path).items() if code not in without}
    return Baseline(entries, is_update=is_update)


def _entries(document: Json, path: Path) -> dict[str, dict[int, int]]:
    """Return the counts by code and fingerprint; where a merge left an entry twice, the larger count."""
    name = one_line(str(path))
    if not isinstance(document, dict) or document.keys() != {"version", "entries"} or document["version"] != 1:
        raise CurateError("E956 bad-baseline", f"{name} is no baseline of version 1", _HINT)
    entries: dict[str, dict[int, int]] = {}
    listed = document["entries"]
    for number, entry in enumerate(listed if isinstance(listed, list) else [None]):
        if not _is_entry(entry):
            raise CurateError("E956 bad-baseline", f"{name}: entry {number} has no code, record and count", _HINT)
        counts, key = entries.setdefault(entry["code"], {}), int(entry["record"], 16)
        counts[key] = max(counts.get(key, 0), entry["count"])
    return entries


def _is_entry(entry: Json) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == {"code", "record", "count"}
        and isinstance(entry["code"], str)
        and bool(_CODE.fullmatch(entry["code"]))
        and isinstance(entry["record"], str)
        and bool(_RECORD.fullmatch(entry["record"]))
        and type(entry["count"]) is int
        and 1 <= entry["count"] <= _MOST
    )


def _written(entries: Mapping[str, Mapping[int, int]]) -> Iterator[bytes]:
    yield b'{\n "version": 1,\n "entries": ['
    lead = "\n"
    for code, counts in sorted(entries.items()):
        for fingerprint, count in sorted(counts.items()):
            yield f'{lead}  {{"code": "{code}", "record": "{fingerprint:016x}", "count": {count}}}'.encode()
            lead = ",\n"
    yield b"\n ]\n}\n"
