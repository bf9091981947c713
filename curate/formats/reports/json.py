"""The whole verdict as one JSON document; `schemas/findings.schema.json` describes it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from curate.formats.reports import Page, Verdict, object_of, report


@report("json")
def render(verdict: Verdict, page: Page) -> Iterator[str]:
    """Yield the document line by line, in ASCII, so that no control character of the data stands in it."""
    document = {
        "version": 1,
        "records": verdict.num_records,
        "lines": verdict.num_lines,
        "errors": verdict.num_errors,
        "warnings": verdict.num_warnings,
        "infos": verdict.num_infos,
        "failing": verdict.num_failing,
        "suppressed": verdict.num_suppressed,
        "forgiven": verdict.num_forgiven,
        "tolerated": dict(verdict.tolerated),
        "exceeded": dict(verdict.exceeded),
        "shown": len(verdict.findings),
        "counts": dict(verdict.counts),
        "findings": [object_of(f) for f in verdict.findings],
    }
    yield from json.dumps(document, indent=2).split("\n")
