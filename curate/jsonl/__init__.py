"""The strict parser: bytes in, JSON objects out, and a finding with line and column for all that is not one.

Every file of records goes through here before any other library may see it.
"""

from curate.jsonl.disguise import packed_as
from curate.jsonl.faults import FAULTS, FaultRule, JsonFault, fault_finding
from curate.jsonl.reader import (
    Entry,
    RawLine,
    Reader,
    Span,
    crlf_finding,
    read_entries,
    spans,
)
from curate.jsonl.strict import strict_loads
from curate.jsonl.walker import locate, parts_of, pointer_of
