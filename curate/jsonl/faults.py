"""The table of everything the strict parser can object to: one row a code, its severity, its words, and its proof."""

from __future__ import annotations

from dataclasses import dataclass

from curate.base.record import Finding, Severity


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One row: ``help`` explains the fault to a person; ``good`` and ``bad`` are the bytes of tiny files."""

    code: str
    name: str
    severity: Severity
    help: str
    good: bytes = b'{"id": "a"}\n'
    bad: bytes = b""


class JsonFault(ValueError):  # noqa: N818  a fault of the data, which the reader turns into a finding
    """Bytes that are not strict JSON: the table's row, what was seen, and the 1-based byte column."""

    def __init__(self, code: str, message: str, column: int, fix: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.name = FAULTS[code].name
        self.message = message
        self.column = column
        self.fix = fix


_ROWS = (
    FaultRule(
        "S101",
        "not-json",
        "error",
        "The line is not one JSON value. Single quotes, comments, trailing commas, unquoted keys, words after "
        "the value and two values on one line are not JSON.",
        bad=b"{'id': 'a'}\n",
    ),
    FaultRule(
        "S102",
        "schema-violation",
        "error",
        "The line is JSON, and the schema does not allow it. There is one finding for each rule that is broken, "
        "with the JSON pointer of the value. `--show-values` adds the value itself.",
        bad=b'{"id": 7}\n',
    ),
    FaultRule(
        "S103",
        "not-utf8",
        "error",
        "Record files are UTF-8 and nothing else: a byte that is not says that the file was written in another "
        "encoding (Latin-1, Shift-JIS, UTF-16) or is damaged. The column is the first such byte.",
        bad=b'{"id": "caf\xe9"}\n',
    ),
    FaultRule(
        "S105",
        "duplicate-key",
        "error",
        "An object names the same key twice. Parsers keep one of the two values without a word, and not all keep "
        "the same one, so the line has no certain meaning.",
        bad=b'{"id": "a", "id": "b"}\n',
    ),
    FaultRule(
        "S106",
        "non-finite-number",
        "error",
        "NaN and Infinity are not JSON. Write null, or leave the key out.",
        bad=b'{"score": NaN}\n',
    ),
    FaultRule(
        "S107",
        "number-out-of-range",
        "error",
        "An integer that does not fit in 64 bits, or a number too large for a double. It would be rounded or "
        "become infinite in the next program. Write it as a string.",
        bad=b'{"n": 123456789012345678901234567890}\n',
    ),
    FaultRule(
        "S108",
        "lone-surrogate",
        "error",
        "An escape such as \\ud800 without its other half is no character and cannot be saved as UTF-8. It is "
        "what is left of an emoji cut in two.",
        bad=b'{"id": "\\ud800"}\n',
    ),
    FaultRule(
        "S109",
        "raw-control-character",
        "error",
        "JSON strings hold control characters only as escapes (\\n, \\t, \\u0000). A raw one says that the file "
        "was written by hand or is damaged.",
        bad=b'{"id": "a\x00b"}\n',
    ),
    FaultRule(
        "S110",
        "too-deep",
        "error",
        "Objects and lists are nested more than 64 levels deep. Deeper values crash or hang programs down the road.",
        bad=b'{"a":' + b"[" * 64 + b"]" * 64 + b"}\n",
    ),
    FaultRule(
        "S111",
        "truncated-line",
        "error",
        "The line ends in the middle of its value: a download or a write was cut off. Fetch the file again, or "
        "complete the record.",
        bad=b'{"id": "a", "outp',
    ),
    FaultRule(
        "S112",
        "not-an-object",
        "error",
        "Each line is one JSON object. This one is a list, a string, a number, true, false or null.",
        bad=b"[1, 2]\n",
    ),
    FaultRule(
        "S113",
        "conflict-marker",
        "error",
        "git left both sides of a merge in the file. Resolve the conflict and remove the marker lines.",
        bad=b'<<<<<<< ours\n{"id": "a"}\n=======\n{"id": "b"}\n>>>>>>> theirs\n',
    ),
    FaultRule(
        "S114",
        "lfs-pointer",
        "error",
        "The file is a Git LFS (or git-annex) pointer, not the data it stands for. Run `git lfs pull`.",
        bad=b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    ),
    FaultRule(
        "S115",
        "compressed-file",
        "error",
        "The file is an archive, compressed, or a binary table. Such files are never unpacked here, because a "
        "small one can hold a huge one. Unpack it yourself, or use `curate import`.",
        bad=b"\x1f\x8b\x08\x00",
    ),
    FaultRule(
        "S116",
        "line-too-long",
        "error",
        "A line is longer than 16 MiB. It was skipped to its end and not parsed.",
    ),
    FaultRule(
        "S117",
        "too-many-keys",
        "error",
        "An object has more than 1,000 keys, or a line more than a million values. Put such data in lists or lines.",
        bad=b"{" + b",".join(b'"k%d":0' % n for n in range(1001)) + b"}\n",
    ),
    FaultRule(
        "S118",
        "byte-order-mark",
        "warning",
        "The file begins with a byte order mark. It was skipped; other readers take it for a syntax error. Save "
        "the file as UTF-8 without it.",
        bad=b'\xef\xbb\xbf{"id": "a"}\n',
    ),
    FaultRule(
        "S119",
        "crlf-line-ends",
        "warning",
        "Lines end in CR LF. The records are read as if the CR were not there. Shown once a file, at the first one.",
        bad=b'{"id": "a"}\r\n',
    ),
    FaultRule(
        "S120",
        "blank-line",
        "warning",
        "A line holds nothing, or white space only. It was skipped.",
        bad=b'{"id": "a"}\n\n{"id": "b"}\n',
    ),
    FaultRule("S121", "empty-file", "warning", "The file holds no line at all."),
    FaultRule(
        "S122",
        "nul-tail",
        "error",
        "The file ends in NUL bytes. Some file systems leave them after a power cut, in place of what was being "
        "written. The lines before are whole: cut the tail off, and look for the lost records in a backup.",
        bad=b'{"id": "a"}\n\x00\x00\x00',
    ),
    FaultRule(
        "S124",
        "not-json-lines",
        "error",
        "The file is a table (.csv, .tsv) or one document spread over lines (pretty-printed JSON, a JSON array, a web "
        "page), not one JSON object a line. `curate init DIR FILE` and `curate import` convert tables and JSON.",
        bad=b'[\n  {"id": "a"}\n]\n',
    ),
    FaultRule(
        "S125",
        "unknown-schema-keyword",
        "warning",
        "The schema has a keyword that JSON Schema does not know, so that it checks nothing: most often a slip "
        "of the pen, such as `requird`. A keyword of your own begins with `x-`.",
    ),
    FaultRule(
        "S127",
        "not-a-regular-file",
        "error",
        "The path is a folder, a pipe, a device, or a link that leads out of the project. Only regular files "
        "inside the project are read; name the file itself.",
    ),
    FaultRule(
        "S128",
        "engine-limit",
        "error",
        "A pattern of the schema needed more work on this value than is allowed, so nobody knows whether the "
        "value matches. Write the pattern without look-around, back-references and nested repetition.",
    ),
    FaultRule(
        "S129",
        "unmerged-path",
        "error",
        "Git has stopped in the middle of merging this file. It may hold one side only, and no conflict marker, as "
        "where one side has deleted the file; committing it would lose the other side. Compare `git show :2:FILE` "
        "(ours) with `git show :3:FILE` (theirs), correct the file, and `git add` it.",
        good=b"",
    ),
)

FAULTS: dict[str, FaultRule] = {row.code: row for row in _ROWS}


def fault_finding(
    code: str,
    message: str,
    file: str,
    line: int = 0,
    column: int = 0,
    *,
    record: str = "",
    pointer: str = "",
    fix: str = "",
) -> Finding:
    """Return the finding of one row of the table at a place."""
    row = FAULTS[code]
    return Finding(row.code, row.name, row.severity, message, file, line, column, record, pointer, fix)
