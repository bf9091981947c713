"""How a dataset tells the trainer to score a category: its metric, and the contract that its completions keep."""

from __future__ import annotations

from pathlib import Path

from curate.base.record import CurateError, Json
from curate.checks.language import scripts_of
from curate.schema import bundled, load_contract
from curate.schema.settings import Category, Settings


def scoring(settings: Settings, name: str) -> dict[str, Json]:
    """Return scorer, options and contract of a category, as the manifest of a dataset holds them.

    A category with a schema and no scorer is scored by ``json_schema``; that scorer, chosen or not, gets the schema.
    The contract is complete in itself: schemas that it refers to are inside, and a language is named by its scripts.

    Raises:
        CurateError: E960, the schema of the category cannot be used.
    """
    category = settings.categories.get(name)
    if category is None:
        return {"scorer": "", "options": {}, "contract": {}}
    contract = _contract(category, settings.root or Path().resolve(), name)
    scorer, options = category.scorer, dict(category.options)
    if "schema" in contract and scorer in ("", "json_schema"):
        scorer, options = "json_schema", {"schema": contract["schema"], **options}
    if scorer == "contract":
        options = contract | options
    return {"scorer": scorer, "options": options, "contract": contract}


def _contract(category: Category, root: Path, name: str) -> dict[str, Json]:
    """Return the options of the trainer's metric ``contract``; empty where the category asks for nothing."""
    contract: dict[str, Json] = {}
    if category.schema_:
        try:
            # A schema that no engine can use is better known now than by the trainer.
            load_contract(root / category.schema_, root)
            schema = bundled(root / category.schema_, root)
        except CurateError as error:
            raise CurateError("E960 bad-contract", f"category {name!r}: {error.message}", error.hint) from error
        contract["schema"] = {} if schema is True else {"not": {}} if schema is False else schema
    if category.min_chars:
        contract["min_chars"] = category.min_chars
    if category.max_chars is not None:
        contract["max_chars"] = category.max_chars
    if scripts := scripts_of(category.language):
        contract["scripts"] = list(scripts)
    if category.citations:
        contract["citations"] = category.citations.pattern
        contract["at_least"] = category.citations.at_least
        contract["in_prompt"] = category.citations.in_prompt
    return contract
