"""Personal data and secrets out of records, by placeholders that keep who is who; back again only with the key."""

from curate.redact._copies import folders_of_copies, num_values
from curate.redact._key import Key, is_private, read_key, write_key
from curate.redact._run import Left, Run, Told, redaction, restoration
from curate.redact._terms import Terms, read_terms
from curate.redact._texts import Redactor, Restorer

__all__ = [
    "Key",
    "Left",
    "Redactor",
    "Restorer",
    "Run",
    "Terms",
    "Told",
    "folders_of_copies",
    "is_private",
    "num_values",
    "read_key",
    "read_terms",
    "redaction",
    "restoration",
    "write_key",
]
