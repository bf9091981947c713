"""The text of `curate.toml`: every setting with its default in sight and a comment that says what it does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import tomlkit
from tomlkit.items import Table

from curate.base.record import Json
from curate.project.given_answers import questions_array
from curate.schema.settings import Question, Settings

_TOP = {
    "schema": "The shape of a record: instruction, chat, domain, preference, or a JSON Schema in this folder.",
    "data": "The files of records.",
    "recipe": "The training recipe in this folder; empty takes the trainer's defaults.",
    "target": "A trainer whose own rules are checked too: openai, trl, axolotl, llama-factory, together; empty: none.",
}
_SECTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "checks": (
        "What `curate validate` looks for.",
        {
            "select": "Codes, names or prefixes of codes to run (S, Q2, D301); empty runs all.",
            "ignore": "Codes, names or prefixes of codes to leave out.",
            "max_chars": "Q204: the longest prompt and completion together, in characters.",
            "min_category": "P502: the fewest records that a category should have.",
            "allow_refusals": "Q206: categories in which refusing is the right answer.",
            "allow_special_tokens": "X705: whether control tokens such as <|im_end|> may stand in the data.",
            "severity": 'Severity by code, in place of the check\'s own, for example Q204 = "error".',
            "tolerance": "How many findings of a check may stand, for example Q203 = { max_rate = 0.01 }.",
            "per_path": 'Other rules for some files, for example "data/old/*.jsonl" = { ignore = ["Q2"] }.',
            "per_category": 'Other rules for some categories, for example jokes = { ignore = ["Q206"] }.',
            "baseline": "A file in this folder of old findings, which do not fail; --update-baseline writes it.",
        },
    ),
    "dedupe": (
        "How near duplicates are found.",
        {
            "threshold": "The likeness, 0 to 1, from which two records are duplicates.",
            "ngram": "Words in a row that are compared as one (FineWeb: 5, with threshold 0.75).",
            "encoder": "Folder of a sentence-embedding model, to find texts of the same meaning too; empty: none.",
            "semantic_threshold": "The cosine from which two texts mean the same.",
        },
    ),
    "split": (
        "How records are divided. The same seed gives the same division; adding records moves nobody.",
        {
            "seed": "Written down when this file was made; nothing is divided without one.",
            "ratios": "Shares of train, validation and test.",
            "group": 'A JSON pointer to what must stay together, for example "/meta/source_id".',
            "stratify": "Whether each category is divided by the ratios, not only the whole.",
        },
    ),
    "leaks": (
        "What no training record may repeat.",
        {
            "against": 'Benchmark files in this folder, for example "benchmarks/*.jsonl".',
            "ngram": "Words in a row that two long texts must share.",
            "short_ngram": "The same for short texts.",
            "max_prompts": "A run of words in more prompts than this is a template, and no evidence.",
        },
    ),
    "label": (
        "What annotators are asked with `curate label`, and who answers what.",
        {
            "questions": 'For example [{ name = "quality", values = ["good", "poor"] }]; empty asks for the category.',
            "annotators": "Who shares the work; if empty, a record asks whoever comes until it has its answers.",
            "overlap": "The share of records that a second annotator answers too, to measure agreement.",
            "gold": "A JSONL file in this folder of known answers, which are asked like the others.",
            "guide": "The guideline in this folder that annotators read beside the record (Markdown).",
        },
    ),
    "review": (
        "Which records somebody must approve, with `curate approve`, before they are exported.",
        {
            "approvals": "How many people; 0 asks for no approval.",
            "not_author": "Whether who wrote what the record says cannot approve it.",
            "categories": "The categories whose records need it; empty means all.",
        },
    ),
    "eval": (
        "What a training run is asked about the records beside their categories.",
        {"slices": 'Fields by whose values answers are compared too, such as ["/meta/language", "source", "tokens"].'},
    ),
    "export": (
        "What a dataset may hold.",
        {"max_machine_share": "The largest share of records that `curate propose` had a model write; 1 takes any."},
    ),
    "contestants": (
        'Names of models to ask, for example large = "large.toml"; a run, a folder, a .gguf file or URL#MODEL too.',
        {},
    ),
    "plugins": (
        "Python files of your own with checks, fixes, importers, exporters and reports.",
        {"path": "Their folder in this one; each runs once `curate config trust` was typed. Empty: none."},
    ),
    "views": ("Filters under a name: `curate list --save NAME` and `V` in Browse write them here.", {}),
    "keys": ('Keys of the terminal UI by what they do, for example "browse.drop" = "x"; its help names them all.', {}),
    "about": (
        "What the cards of exported datasets say.",
        {
            "title": "The name for people.",
            "description": "What it is for, and how it was made.",
            "license": 'SPDX identifier, for example "CC-BY-4.0", of records that name none in /meta/license.',
            "creators": "Who made it.",
            "homepage": "Where it is published.",
            "citation": "How to cite it (BibTeX).",
        },
    ),
}
_NO_CATEGORIES = (
    "The categories that records are scored under, each with its metric. While none is listed, any is accepted.",
    "[categories.billing]",
    'scorer = "exact"',
)


def settings_text(
    *,
    schema: str,
    seed: int,
    categories: Mapping[str, str],
    options: Mapping[str, Mapping[str, Json]] | None = None,
    ratios: tuple[float, float, float] | None = None,
    recipe: str = "",
    allow_refusals: tuple[str, ...] = (),
    questions: Sequence[Question] = (),
    group: str = "",
) -> str:
    """Return `curate.toml` for a workspace whose ``categories`` map to the names of their scorers.

    ``options`` are those of a category's scorer.
    """
    settings = Settings(schema_=schema)
    split: dict[str, Json] = {"seed": seed, "group": group} | ({"ratios": list(ratios)} if ratios else {})
    document = tomlkit.document()
    document.add(tomlkit.comment("Settings of this workspace. Every setting is listed; what you see is its value."))
    top: dict[str, Json] = {"schema": schema, "data": settings.data, "recipe": recipe, "target": ""}
    for name, value in top.items():
        document.add(tomlkit.nl())
        document.add(tomlkit.comment(_TOP[name]))
        document.add(name, tomlkit.item(value))
    given: dict[str, dict[str, Json]] = {"checks": {"allow_refusals": list(allow_refusals)}, "split": split}
    if questions:
        given["label"] = {"questions": questions_array(questions)}
    defaults = asdict(settings)
    for section, (about, comments) in _SECTIONS.items():
        document.add(tomlkit.nl())
        document.add(tomlkit.comment(about))
        document.add(section, _section(defaults[section] | given.get(section, {}), comments))
    document.add(tomlkit.nl())
    if categories:
        document.add(
            tomlkit.comment("The categories found in the data, each with a guess at its metric: look them through.")
        )
        document.add("categories", _categories(categories, options or {}))
    else:
        for line in _NO_CATEGORIES:
            document.add(tomlkit.comment(line))
    # tomlkit puts a blank line before each section; the comment about the section belongs right above it.
    return re.sub(r"^(# .*)\n\n\[", r"\1\n[", tomlkit.dumps(document), flags=re.MULTILINE)


def _section(values: Mapping[str, Json], comments: Mapping[str, str]) -> Table:
    table = tomlkit.table()
    for name, about in comments.items():
        table.add(tomlkit.comment(about))
        value = values[name]
        if isinstance(value, dict):
            # An empty table in a table would be a section of its own; inline it stays beside its comment.
            inline = tomlkit.inline_table()
            inline.update(value)
            table.add(name, inline)
        else:
            table.add(name, tomlkit.item(list(value) if isinstance(value, tuple) else value))
    return table


def _categories(categories: Mapping[str, str], options: Mapping[str, Mapping[str, Json]]) -> Table:
    parent = tomlkit.table(is_super_table=True)
    for name, scorer in categories.items():
        table = tomlkit.table()
        table.add("scorer", scorer)
        if name in options:
            inline = tomlkit.inline_table()
            inline.update(options[name])
            table.add("options", inline)
        parent.add(name, table)
    return parent
