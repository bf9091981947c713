"""Tables and texts that are not UTF-8: their encoding is the one in which words look like words, or asked for."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

from curate.formats.importers import (
    Container,
    Rejected,
    SourceRow,
    cannot_import,
    container,
    container_of,
    head_of,
    wide_encoding,
)
from curate.formats.importers.documents import SUFFIXES
from curate.formats.importers.packed import UnpackFolder, rows_inside

_SUFFIXES = (".csv", ".tsv", ".tab", *SUFFIXES)
_CHUNK = 1024 * 1024
# So many bytes are looked at for the words.
_MOST_LOOKED_AT = 8 * _CHUNK
# The letters beyond ASCII that languages write, and the least share of them among the letters of a text: Czech without
# them is none. Words that English took from others may have a few of many.
_BORROWED = ("àáâãäåæçèéêëíîïñóôöøúüœ", 0.0)
_WESTERN = (
    ("àâæçéèêëîïôœùûüÿ", 0.01), ("äöüß", 0.005), ("áéíñóúü", 0.005), ("áâãàçéêíóôõúü", 0.01), ("àèéìíîòóùú", 0.003),
    ("æøåéèòô", 0.01), ("åäöéü", 0.01), ("áðéíóúýþæö", 0.05), ("àçèéíïòóúü", 0.01), ("áéëïóöüèê", 0.0005),
)  # fmt: skip
_CENTRAL = (
    ("ąćęłńóśźż", 0.03), ("áčďéěíňóřšťúůýž", 0.05), ("áäčďéíĺľňóôŕšťúýž", 0.05), ("áéíóöőúüű", 0.04),
    ("čćđšž", 0.01), ("ăâîșțşţ", 0.02), ("äöüß", 0.005),
)  # fmt: skip
_CYRILLIC = (("".join(map(chr, range(0x400, 0x460))) + "ґ", 0.3),)
_GREEK = (("".join(map(chr, range(0x370, 0x400))) + "".join(map(chr, range(0x1F00, 0x2000))), 0.3),)
_TURKISH = (("çğıöşüâîû\u0307", 0.04),)
_CANDIDATES = {
    "cp1252": (_BORROWED, *_WESTERN), "iso8859-15": (_BORROWED, *_WESTERN), "mac_roman": (_BORROWED, *_WESTERN),
    "cp850": _WESTERN, "cp1250": _CENTRAL, "iso8859-2": _CENTRAL, "cp1254": _TURKISH, "cp1251": _CYRILLIC,
    "koi8-r": _CYRILLIC, "cp866": _CYRILLIC, "cp1253": _GREEK,
    # Of these, which have no alphabet, only that words are written in one script can be said.
    "cp932": (), "euc-jp": (), "gb18030": (), "big5": (), "cp949": (),
}  # fmt: skip
# The only letters beyond ASCII that are words of Latin script by themselves.
_ALONE = frozenset("àáâåæèéêíïóòôöøúüß")
_WORD = re.compile(r"[^\W\d_]+")
_FOREIGN = re.compile(r"[^\x00-\x7f]")
# What may stand between two letters, and what else is neither letter nor ASCII in a usual text.
_BETWEEN = frozenset("’‘·–—…\xad\xa0•")
_USUAL = _BETWEEN | frozenset("´«»“”„‚‹›€£¥§°©®™±×÷½¼¾¹²³¿¡†‡‰¨")
_IDEOGRAPHS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uff66-\uff9f々]+")
_WIDE_MARKS = re.compile(r"[\u3000-\u303f\uff01-\uff65\u2010-\u2026]")


def _fits(path: Path, _head: bytes) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.is_file() and bool(_encoding_of(path))


def _notices(path: Path) -> Sequence[str]:
    encoding = _encoding_of(path)
    why = "by its first bytes" if encoding.startswith("utf-") else "in no other are its words words"
    return [f"its encoding is {encoding}, {why}", *_notices_inside(path, encoding)]


@container("encoded", fits=_fits, priority=2, notices=_notices)
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """Tables and texts in another encoding than UTF-8, which their words prove; else `--encoding` is asked for."""
    yield from _rows(path, _encoding_of(path))


def container_for(path: Path, encoding: str) -> Container:
    """Return what reads a file of text in ``encoding``, a name that Python knows, such as cp1252 or utf-16.

    Raises:
        CurateError: E908 for an encoding that nobody knows, or a file that is not in it.
    """
    try:
        codecs.getincrementaldecoder(encoding)
        if not isinstance("a".encode(encoding), bytes):
            raise LookupError(encoding)
    except (LookupError, TypeError, ValueError) as error:
        hint = f"Known are for example utf-8, utf-16, {', '.join(_CANDIDATES)}."
        raise cannot_import(f"there is no encoding of texts called {encoding!r}", hint) from error
    head_of(path)
    inner = container_of(_copy(path, encoding)[0])
    return Container(inner.name, inner.help, inner.fits, partial(_rows, encoding=encoding), notices=partial(
        _notices_inside, encoding=encoding
    ))  # fmt: skip


def _rows(path: Path, encoding: str) -> Iterator[SourceRow | Rejected]:
    # Whoever reads the copy holds its folder.
    copy, _folder = _copy(path, encoding)
    yield from rows_inside(path, "", copy, container_of(copy).rows(copy))


def _notices_inside(path: Path, encoding: str) -> Sequence[str]:
    copy, _folder = _copy(path, encoding)
    return container_of(copy).notices(copy)


def _copy(path: Path, encoding: str) -> tuple[Path, UnpackFolder]:
    status = path.stat()
    return _copied_once(path, encoding, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1)
def _copied_once(path: Path, encoding: str, _size: int, _changed: int) -> tuple[Path, UnpackFolder]:
    """Return the file in UTF-8, under its own name in a temporary folder.

    Raises:
        CurateError: E908 when it is not in ``encoding``.
    """
    folder = UnpackFolder()
    decode = codecs.getincrementaldecoder(encoding)().decode
    with path.open("rb") as source, (folder.path / path.name).open("wb") as target:
        try:
            while chunk := source.read(_CHUNK):
                target.write(decode(chunk).encode())
            target.write(decode(b"", True).encode())
        except UnicodeError as error:
            raise cannot_import(f"{path}: it is not {encoding}: {error}", "Name another --encoding.") from error
        except OSError as error:
            raise cannot_import(f"{path}: no copy of it can be made: {error}", "Make room, or convert it.") from error
    # The "Unicode text" of Excel is a table.
    copy = folder.path / path.name
    lines = head_of(copy).split(b"\n")
    if copy.suffix.lower() == ".txt" and len(lines) > 1 and 0 < lines[0].count(b"\t") == lines[1].count(b"\t"):
        copy = copy.rename(copy.with_suffix(".tsv"))
    return copy, folder


def _encoding_of(path: Path) -> str:
    status = path.stat()
    return _found_once(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _found_once(path: Path, _size: int, _changed: int) -> str:
    """Return the encoding of a file that is not UTF-8, "" for one that is, or that is in none.

    Raises:
        CurateError: E908 when its words are words in several encodings, with one of them in each.
    """
    if known := wide_encoding(head_of(path)):
        return known
    start = b""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    with path.open("rb") as handle:
        try:
            while chunk := handle.read(_CHUNK):
                # Pieces without such bytes say nothing of the encoding.
                start += chunk if len(start) < _MOST_LOOKED_AT and not chunk.isascii() else b""
                decode(chunk)
            decode(b"", True)
        except UnicodeDecodeError:
            start += handle.read(_MOST_LOOKED_AT)
            return "" if b"\0" in start else _proved(path, start)
    return ""


def _proved(path: Path, raw: bytes) -> str:
    texts: dict[str, str] = {}
    for encoding, languages in _CANDIDATES.items():
        # Old Macs end lines with CR alone.
        if encoding == "mac_roman" and b"\n" in raw:
            continue
        # The last character may be cut off.
        text = codecs.getincrementaldecoder(encoding)("replace").decode(raw)
        if "\ufffd" not in text and (_is_plausible(text, languages) if languages else _is_wide(text)):
            texts.setdefault(text, encoding)
    if len(texts) < 2:
        return next(iter(texts.values()), "")
    words = {text: _differing(text, set(texts) - {text}) for text in texts}
    shown = ", ".join(f"{words[text]!r} in {encoding}" for text, encoding in texts.items())
    hint = f"Add the right one: --encoding {next(iter(texts.values()))}"
    raise cannot_import(f"{path}: it is not UTF-8, and its words are words in several encodings: {shown}", hint)


def _differing(text: str, others: set[str]) -> str:
    known = {word for other in others for word in _WORD.findall(other)}
    words = (word for word in _WORD.findall(text) if not word.isascii())
    return next((word for word in words if word not in known), "")[:40]


def _is_plausible(text: str, languages: Sequence[tuple[str, float]]) -> bool:
    """Whether the characters beyond ASCII are such as one of ``languages`` writes, in words that are cased as usual."""
    text = text.translate(dict.fromkeys(map(ord, "µªº"), " "))
    for match in _FOREIGN.finditer(text):
        mark = match.group()
        if mark.isalpha():
            continue
        is_between = text[match.start() - 1 : match.start()].isalpha() and text[match.end() : match.end() + 1].isalpha()
        if mark not in _USUAL or (is_between and mark not in _BETWEEN):
            return False
        # Signs that open what follows do not stand at the end of a word.
        if mark in "„‚¿¡" and text[match.start() - 1 : match.start()].isalpha():
            return False
    if all(mark in "\xa0\xad" for mark in _FOREIGN.findall(text)):
        return False
    words = _WORD.findall(text)
    foreign = [word for word in words if not word.isascii()]
    letters = {letter for word in foreign for letter in word.lower() if not letter.isascii()}
    return all(map(_is_usual, set(foreign))) and _is_written(letters, foreign, sum(map(len, words)), languages)


def _is_written(
    letters: set[str], foreign: Sequence[str], num_letters: int, languages: Sequence[tuple[str, float]]
) -> bool:
    share = sum(not letter.isascii() for word in foreign for letter in word) / max(1, num_letters)
    return not letters or any(letters <= set(alphabet) and share >= least for alphabet, least in languages)


def _is_usual(word: str) -> bool:
    """Whether a word is in one script, and in small letters, capitals, or with a capital at its beginning."""
    if len(word) == 1 and unicodedata.name(word, "").startswith("LATIN") and word.lower() not in _ALONE:
        return False
    is_latin = [unicodedata.name(letter, "").startswith("LATIN") for letter in word]
    return len(set(is_latin)) == 1 and (word.islower() or word.isupper() or word[1:].islower() or len(word) == 1)


def _is_wide(text: str) -> bool:
    """Whether all that is beyond ASCII are East Asian characters, in words without letters of other scripts."""
    foreign = _FOREIGN.findall(text)
    if not all(_IDEOGRAPHS.fullmatch(mark) or _WIDE_MARKS.fullmatch(mark) for mark in set(foreign)):
        return False
    return not any(_IDEOGRAPHS.search(word) and re.search("[A-Za-z]", word) for word in _WORD.findall(text))
