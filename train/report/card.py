"""The model card of what a run made: front matter by a YAML dumper, and texts of the data that stay texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.base.console import visible
from train.report.model import Report
from train.report.write import render


@dataclass(frozen=True)
class CardFacts:
    """What a card says besides the report; ``licenses`` are those that the manifest's records name, "" for none.

    ``num_records`` counts no replayed text, and ``num_steps`` those that were made, which a guard may have ended.
    """

    base: str
    method: str
    dataset: str
    licenses: list[str]
    data_digest: str
    base_digest: str
    num_records: int
    objective: str
    num_steps: int
    seed: int
    dtype: str


def model_card(report: Report, facts: CardFacts, name: str, *, library: str) -> str:
    """Return the README.md of a model folder; ``library`` is what loads it: "peft" or "transformers"."""
    # Comes with transformers.
    import yaml

    front: dict[str, Any] = {
        "base_model": _line(facts.base),
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": ["pairsmith", _line(facts.method)],
    }
    if named := [text for text in facts.licenses if text]:
        # As on the card of the data set: the Hub spells SPDX identifiers in lower case, and several are "other".
        front["license"] = _line(named[0]).lower() if len(facts.licenses) == 1 else "other"
    # The dumper folds long lines, and a folded line could look like the end of the front matter to a careless reader.
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=float("inf"))
    return f"---\n{head}---\n\n" + render("card.md.j2", report, autoescape=False, name=name, facts=facts)


def card_facts(record: Mapping[str, Any], manifest: Mapping[str, Any]) -> CardFacts:
    """Return what a card says of a run, from its run.json and the manifest of its data set."""
    dataset, recipe = record["dataset"], record["recipe"]
    return CardFacts(
        base=str(recipe["base"]),
        method=str(recipe["method"]),
        dataset=_title(manifest, Path(str(dataset["path"])).name),
        licenses=_licenses(manifest),
        data_digest=str(dataset["sha256"]),
        base_digest=str(record["facts"]["base"]),
        num_records=int(record["examples"]),
        objective=str(record["objective"]),
        num_steps=int(record["step"]),
        seed=int(recipe["seed"]),
        dtype=str(recipe["dtype"]),
    )


def _title(manifest: Mapping[str, Any], otherwise: str) -> str:
    """What a manifest calls its data set: the title that its owner gave, else its name, else ``otherwise``."""
    about = manifest.get("about")
    title = about.get("title") if isinstance(about, Mapping) else None
    return str(title or manifest.get("name") or otherwise)


def _licenses(manifest: Mapping[str, Any]) -> list[str]:
    """The different licences that a manifest's records are under, sorted; "" stands for records with none."""
    origins = manifest.get("provenance")
    records = [origin for origin in origins if isinstance(origin, Mapping)] if isinstance(origins, list) else []
    return sorted({str(record.get("license") or "") for record in records})


def _line(text: str) -> str:
    return " ".join(visible(text).split())
