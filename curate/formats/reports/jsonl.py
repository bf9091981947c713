"""One JSON object a finding and line; `schemas/findings.schema.json` describes it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from curate.formats.reports import Page, Verdict, object_of, report


@report("jsonl")
def render(verdict: Verdict, page: Page) -> Iterator[str]:
    """Yield one object a finding, in ASCII, so that no control character of the data stands in it."""
    for finding in verdict.findings:
        yield json.dumps(object_of(finding))
