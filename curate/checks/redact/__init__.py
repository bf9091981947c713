"""Personal data and secrets out of records, by placeholders that keep who is who."""

from curate.checks.redact._copies import folders_of_copies, num_values
from curate.checks.redact._run import Redaction, RedactionSummary, UnchangedValue, placeholders_in
from curate.checks.redact._table import OldEntry, PlaceholderTable, is_private, read_old_key, read_table, write_table
from curate.checks.redact._terms import Terms, read_terms
from curate.checks.redact._texts import Redactor

__all__ = [
    "OldEntry",
    "Redaction",
    "RedactionSummary",
    "Redactor",
    "PlaceholderTable",
    "Terms",
    "UnchangedValue",
    "folders_of_copies",
    "is_private",
    "num_values",
    "placeholders_in",
    "read_old_key",
    "read_table",
    "read_terms",
    "write_table",
]
