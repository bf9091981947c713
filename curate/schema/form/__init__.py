"""Forms for lines of any JSON Schema: a tree of fields over the line itself, which loses nothing of it.

A field that a form cannot show well, because its schema branches or does not say what it holds, is edited as JSON with
the same checks.
"""

from curate.schema.form.fields import Field
from curate.schema.form.markdown import is_markdown, markdown_of, read_markdown
from curate.schema.form.model import Form, Typed, value_at
from curate.schema.form.outline import outline
from curate.schema.form.rules import option_index
from curate.schema.form.text import (
    Misspelt,
    Spelling,
    describe_problem,
    escaped,
    in_key_order,
    is_huge,
    is_plain,
    json_in,
    json_text,
    position_in,
    read_number,
    read_tags,
    read_written,
    respelled_json,
    tags_text,
    written,
)
from curate.schema.form.turns import is_trained
