"""Files that are no lines of text at all, by their first bytes: archives, pointers, pictures, web pages."""

from __future__ import annotations

import re

from curate.jsonl.faults import JsonFault

BOM = b"\xef\xbb\xbf"
_PACKED: dict[str, bytes | tuple[bytes, ...]] = {
    "gzip": b"\x1f\x8b",
    "compressed by compress": b"\x1f\x9d",
    "lzma": b"\x5d\x00\x00",
    "zlib": (b"\x78\x01", b"\x78\x9c", b"\x78\xda"),
    "lz4": (b"\x02\x21\x4c\x18", b"\x04\x22\x4d\x18"),
    "Snappy": b"\xff\x06\x00\x00sNaPpY",
    "lzop": b"\x89LZO",
    "a cabinet": b"MSCF\x00",
    "a Windows image": b"MSWIM\x00",
    "an ar archive": b"!<arch>\n",
    "a xar archive": b"xar!",
    "zpaq": b"zPQ",
    "an RPM package": b"\xed\xab\xee\xdb",
    "zip": (b"PK\x07\x08", b"PK\x03\x04", b"PK\x05\x06"),
    "a pickle": (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
    "a NumPy array": b"\x93NUMPY",
    "Feather": b"FEA1",
    "ORC": b"ORC\n",
    "Avro": b"Obj\x01",
    "a GGUF model": b"GGUF",
    "a PNG picture": b"\x89PNG",
    "a JPEG picture": b"\xff\xd8\xff",
    "a GIF picture": b"GIF8",
    "a program": (b"\x7fELF", b"MZ\x90"),
    "a document of old Office": b"\xd0\xcf\x11\xe0",
    "xz": b"\xfd7zXZ\x00",
    "bzip2": b"BZh",
    "zstd": b"\x28\xb5\x2f\xfd",
    "7-Zip": b"7z\xbc\xaf\x27\x1c",
    "RAR": b"Rar!\x1a\x07",
    "lzip": b"LZIP",
    "Parquet": b"PAR1",
    "Arrow": b"ARROW1",
    "SQLite": b"SQLite format 3\x00",
    "PDF": b"%PDF-",
    "HDF5": b"\x89HDF",
}
# UTF-32 begins with the mark of UTF-16, so that the longer marks come first.
_MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_POINTERS = (b"version https://git-lfs", b"version https://hawser.github.com/", b"# xet version")
_PAGES = (b"<!doctype", b"<html", b"<head", b"<!--", b"<?xml")
# Digits alone could be a number in a table, so that the whole header is looked at.
_CPIO = re.compile(rb"07070[12][0-9A-Fa-f]{104}")


def packed_as(head: bytes) -> str:
    """Return what kind of archive or binary file begins with these bytes, "" where the kind is not known."""
    if head[257:262] == b"ustar":
        return "a tar archive"
    if _CPIO.match(head):
        return "a cpio archive"
    return next((name for name, magic in _PACKED.items() if head.startswith(magic)), "")


def refuse_disguise(head: bytes) -> None:
    """Refuse a file whose first bytes say that it is not lines of text at all.

    Raises:
        JsonFault: S114 for a pointer, S115 for packed and binary files, S103 for UTF-16 and UTF-32, S124 for web pages.
    """
    if name := packed_as(head):
        raise JsonFault("S115", f"the file is {name}, not JSON Lines", 1, "Unpack or convert it first.")
    text = head.removeprefix(BOM)
    if text.startswith(_POINTERS) or b"/annex/objects/" in head[:64]:
        raise JsonFault("S114", "the file is a pointer to data that was not fetched", 1, "Run `git lfs pull`.")
    # Without a mark, wide encodings of JSON show by a NUL in every pair of bytes at the start.
    pairs = [head[start : start + 2] for start in range(0, min(8, len(head) - 1), 2)]
    is_json = head[:4].strip(b"\x00")[:1] in (b"{", b"[")
    encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "")
    column = 1
    if not encoding and is_json and len(pairs) > 1 and all(0 in pair for pair in pairs):
        encoding = f"UTF-{32 if head[:4].count(0) > 2 else 16}{'LE' if head[0] else 'BE'}"
        column = head.index(0) + 1
    if encoding:
        fix = f"Convert it with `iconv -f {encoding} -t UTF-8 FILE > NEW`."
        raise JsonFault("S103", f"the file is {encoding}, not UTF-8", column, fix)
    if text.lstrip().lower().startswith(_PAGES):
        raise JsonFault("S124", "the file is a web page or XML", 1, "Fetch the data file itself.")
