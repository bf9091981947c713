"""How the front door and the schema engine fare on the official suites, beside the library that people know.

    python benchmarks/conformance.py --suites FOLDER

FOLDER holds `json-schema-test-suite` (https://github.com/json-schema-org/JSON-Schema-Test-Suite) and `json-test-suite`
(https://github.com/nst/JSONTestSuite). Nothing is fetched: references resolve in the suite's own
`remotes` or not at all. The peer runs without its extra for formats, as a plain install does. The table is Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import referencing
import referencing.jsonschema

from curate.jsonl import JsonFault, strict_loads
from curate.schema import build_validator

DIALECTS = {
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft7": "http://json-schema.org/draft-07/schema#",
}
SPECIFICATIONS = {"draft2020-12": referencing.jsonschema.DRAFT202012, "draft7": referencing.jsonschema.DRAFT7}
Engine = Callable[[Any, bool], Callable[[Any], bool]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", type=Path, required=True)
    folder = parser.parse_args().suites
    remotes = {
        f"http://localhost:1234/{path.relative_to(base).as_posix()}": json.loads(path.read_text(encoding="utf-8"))
        for base in [folder / "json-schema-test-suite" / "remotes"]
        for path in base.rglob("*.json")
    }
    print(f"| suite | part | cases | ours fails | jsonschema {version('jsonschema')} fails |")
    print("|---|---|---:|---:|---:|")
    for draft in DIALECTS:
        engines = (_ours(remotes), _library(remotes, draft))
        for part, files, has_formats in _parts(folder / "json-schema-test-suite" / "tests" / draft):
            cases = list(_cases(files, draft))
            fails = [sum(_is_wrong(engine, case, has_formats) for case in cases) for engine in engines]
            print(f"| JSON Schema {draft} | {part} | {len(cases):,} | {' | '.join(map(str, fails))} |")
    for part, letter in (("must be read", "y"), ("must be refused", "n")):
        files = sorted((folder / "json-test-suite" / "test_parsing").glob(f"{letter}_*.json"))
        fails = [sum(reads(path) != (letter == "y") for path in files) for reads in (_door_reads, _json_reads)]
        print(f"| JSON parsing | {part} | {len(files):,} | {fails[0]} | {fails[1]} (`json`) |")


def _parts(folder: Path) -> Iterator[tuple[str, list[Path], bool]]:
    formats = sorted((folder / "optional" / "format").rglob("*.json"))
    yield "required", sorted(folder.glob("*.json")), False
    yield "optional", sorted(path for path in (folder / "optional").rglob("*.json") if path not in formats), False
    yield "formats", formats, True


def _cases(files: list[Path], draft: str) -> Iterator[tuple[Any, Any, bool]]:
    for path in files:
        for group in json.loads(path.read_text(encoding="utf-8")):
            schema = group["schema"]
            if isinstance(schema, dict) and "$schema" not in schema:
                schema = {"$schema": DIALECTS[draft], **schema}
            for case in group["tests"]:
                yield schema, case["data"], case["valid"]


def _is_wrong(engine: Engine, case: tuple[Any, Any, bool], has_formats: bool) -> bool:
    schema, value, is_valid = case
    try:
        return engine(schema, has_formats)(value) != is_valid
    # Whatever an engine raises on a case of the suite is a wrong answer, and engines raise many things.
    except Exception:  # noqa: BLE001
        return True


def _ours(remotes: dict[str, Any]) -> Engine:
    return lambda schema, has_formats: build_validator(schema, remotes, is_format_checked=has_formats).is_valid


def _library(remotes: dict[str, Any], draft: str) -> Engine:
    resources = [
        (url, referencing.Resource.from_contents(body, default_specification=SPECIFICATIONS[draft]))
        for url, body in remotes.items()
    ]
    registry = referencing.Registry().with_resources(resources)

    def build(schema: Any, has_formats: bool) -> Callable[[Any], bool]:
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        checker = kind.FORMAT_CHECKER if has_formats else None
        return kind(schema, registry=registry, format_checker=checker).is_valid  # type: ignore[no-any-return]

    return build


def _door_reads(path: Path) -> bool:
    try:
        strict_loads(path.read_bytes())
    except JsonFault:
        return False
    return True


def _json_reads(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return True


if __name__ == "__main__":
    print(f"jsonschema-rs {version('jsonschema-rs')} with our options, offline.\n")
    main()
