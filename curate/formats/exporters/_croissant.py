"""A dataset described in Croissant 1.0 (https://docs.mlcommons.org/croissant/docs/croissant-spec.html), JSON-LD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curate.base.record import Json
from curate.formats.exporters._columns import NUMBERS, TEXTS

_CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
_CONTEXT: dict[str, Json] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file of one split: its path below the dataset's folder, its digest and its size in bytes."""

    split: str
    path: str
    sha256: str
    num_bytes: int


def croissant(manifest: Mapping[str, Json], files: Sequence[DataFile]) -> dict[str, Json]:
    """Return the description of a dataset whose splits lie in ``files``."""
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


def _distribution(file: DataFile) -> dict[str, Json]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.num_bytes} B",
        "encodingFormat": "application/x-parquet",
        "sha256": file.sha256,
    }


def _record_set(file: DataFile) -> dict[str, Json]:
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


def _field(file: DataFile, name: str, column: str) -> dict[str, Json]:
    return {
        "@type": "cr:Field", "@id": name, "name": column, "dataType": "sc:Text",
        "source": {"fileObject": {"@id": file.path}, "extract": {"column": column}},
    }  # fmt: skip
