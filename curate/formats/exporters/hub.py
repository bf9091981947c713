"""A folder as the Hugging Face Hub shows it best: Parquet files, a dataset card, and a Croissant description.

The description is Croissant 1.0, JSON-LD: https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from curate.base.file_guard import open_file
from curate.base.record import Json
from curate.base.storage import write_atomic
from curate.formats.exporters import ExportResult, RowsBySplit, exporter
from curate.formats.exporters import parquet as parquet_exporter
from curate.formats.exporters._card import readme
from curate.formats.exporters._rows import NUMBERS, TEXTS

_CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
_PREFIXES: dict[str, Json] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
}
_TERMS = (
    "citeAs", "column", "conformsTo", "data", "dataType", "equivalentProperty", "examples", "extract", "field",
    "fileProperty", "fileObject", "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5",
    "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator",
    "source", "subField", "transform",
)  # fmt: skip
# The specification asks for this very context; most of its terms are those of the vocabulary by the same name.
_CONTEXT = (
    _PREFIXES
    | {term: f"cr:{term}" for term in _TERMS}
    | {
        "conformsTo": "dct:conformsTo",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
    }
)


@dataclass(frozen=True, slots=True)
class _DataFile:
    """A Parquet file of one split: its path below the dataset's folder, its digest and its size in bytes."""

    split: str
    path: str
    sha256: str
    num_bytes: int


@exporter("hub", keeps=None, takes_answers=True)
def write(rows_by_split: RowsBySplit, folder: Path, manifest: Mapping[str, Json]) -> ExportResult:
    """A folder for the Hub: data/SPLIT.parquet, README.md with the card, croissant.json, and the manifest."""
    filled = {split: rows for split, rows in rows_by_split.items() if rows}
    written = parquet_exporter.write(filled, folder / "data", manifest)
    files = []
    for split, path in zip(filled, written.paths, strict=True):
        with open_file(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files.append(_DataFile(split, f"data/{path.name}", digest, path.stat().st_size))
    opening = 'Open it with `datasets.load_dataset("parquet", data_dir=...)`, or by its name once it is on the Hub.'
    texts: dict[str, bytes] = {
        "README.md": readme(rows_by_split, manifest, opening, {file.split: file.path for file in files}).encode(),
        "croissant.json": orjson.dumps(_croissant(manifest, files), option=orjson.OPT_INDENT_2) + b"\n",
        "manifest.json": orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n",
    }
    for name, text in texts.items():
        write_atomic(folder / name, [text])
    notes = [f"The split {split} is empty and was left out." for split in rows_by_split if split not in filled]
    return ExportResult([*written.paths, *(folder / name for name in texts)], written.num_rows, notes=notes)


def _croissant(manifest: Mapping[str, Json], files: Sequence[_DataFile]) -> dict[str, Json]:
    about = manifest.get("about") or {}
    licenses = sorted({str(origin["license"]) for origin in manifest.get("provenance") or [] if origin["license"]})
    name = str(about.get("title") or manifest.get("name", "dataset"))
    document: dict[str, Json] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": str(about.get("description") or f"Instruction data, version {manifest.get('name', '')}."),
        "conformsTo": _CONFORMS_TO,
        # The version is that of the export: v3 is 3.0.0 to readers who expect three numbers.
        "version": f"{str(manifest.get('name', 'v1')).removeprefix('v')}.0.0",
        "datePublished": str(manifest.get("created", ""))[:10],
        "license": licenses,
        "url": about.get("homepage") or "",
        "creator": [{"@type": "sc:Organization", "name": creator} for creator in about.get("creators") or []],
        "citeAs": about.get("citation") or "",
        "distribution": [_distribution(file) for file in files],
        "recordSet": [_record_set(file) for file in files],
    }
    return {key: value for key, value in document.items() if value not in ("", [])}


def _distribution(file: _DataFile) -> dict[str, Json]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.num_bytes} B",
        "encodingFormat": "application/x-parquet",
        "sha256": file.sha256,
    }


def _record_set(file: _DataFile) -> dict[str, Json]:
    texts = [_field(file, f"{file.split}/{name}", name) for name in TEXTS]
    numbers = [{**_field(file, f"{file.split}/{name}", name), "dataType": "sc:Float"} for name in NUMBERS]
    parts = [
        {**_field(file, f"{file.split}/messages/{part}", "messages"), "name": part} for part in ("role", "content")
    ]
    for part, name in zip(parts, ("role", "content"), strict=True):
        part["source"]["transform"] = {"jsonPath": f"$[*].{name}"}
    messages = {
        "@type": "cr:Field", "@id": f"{file.split}/messages", "name": "messages", "repeated": True, "subField": parts,
    }  # fmt: skip
    return {
        "@type": "cr:RecordSet", "@id": file.split, "name": file.split, "key": {"@id": f"{file.split}/id"},
        "field": [*texts, *numbers, messages],
    }  # fmt: skip


def _field(file: _DataFile, name: str, column: str) -> dict[str, Json]:
    return {
        "@type": "cr:Field", "@id": name, "name": column, "dataType": "sc:Text",
        "source": {"fileObject": {"@id": file.path}, "extract": {"column": column}},
    }  # fmt: skip
