"""The one JSON Schema engine: jsonschema-rs, which never reaches the network and may not hang on a pattern."""

from __future__ import annotations

from collections.abc import Mapping

import jsonschema_rs

from curate.base.record import Json

BACKTRACK_LIMIT = 100_000
_PATTERN_BYTES = 1024 * 1024


def build_validator(
    schema: Json, resources: Mapping[str, Json], *, base_uri: str | None = None, is_format_checked: bool = True
) -> jsonschema_rs.Validator:
    """Compile ``schema`` with the options that all of curate uses.

    ``resources`` are the only other schemas that a reference can reach, by absolute URI. ``format`` is checked, since a
    curator who writes it expects that; the 2020-12 default of annotating only is had with ``is_format_checked=False``.
    Patterns have the ECMA meaning: digits and letters are ASCII, and a dollar sign is the very end.

    Raises:
        jsonschema_rs.ValidationError: the schema is not one, or a reference leads nowhere.
    """

    def retrieve(uri: str) -> Json:
        if uri in resources:
            return resources[uri]
        raise LookupError(f"{uri} is not part of the project")

    return jsonschema_rs.validator_for(
        schema,
        retriever=retrieve,
        base_uri=base_uri,
        validate_formats=is_format_checked,
        pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACK_LIMIT, size_limit=_PATTERN_BYTES),
    )
