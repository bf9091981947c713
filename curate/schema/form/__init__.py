"""Forms for lines of any JSON Schema: fields over the line itself, which loses nothing of it.

A flat value and a turn of a conversation have fields; everything else is edited as JSON with the same checks.
"""

from curate.schema.form.fields import Field, is_trained
from curate.schema.form.model import Form, Typed
from curate.schema.form.text import (
    Misspelt,
    Spelling,
    describe_problem,
    in_key_order,
    is_huge,
    is_toml,
    json_text,
    position_in,
    read_json,
    read_record,
    respelled_json,
    toml_of,
)
from curate.schema.rules import is_same
from curate.schema.view import value_at
