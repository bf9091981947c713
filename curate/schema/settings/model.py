"""The settings of a workspace: `curate.toml`, read strictly, every key known, every default visible."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, Strict, field_validator, model_validator

from curate.base.record import Severity

# Names something: a glob of dots and slashes alone is the workspace itself or what lies above it.
_GLOB = r"^[^\u0000]*[^\u0000./][^\u0000]*$"


def _collapsed(glob: str) -> str:
    """Return ``glob`` with runs of ``**/``, which mean no more than one and take pathlib ages, as one.

    Raises:
        ValueError: ``**`` is a part of a name, which pathlib refuses.
    """
    if any("**" in part and part != "**" for part in glob.split("/")):
        fixed = re.sub(r"\*\*+(?![/*])", "**/*", re.sub(r"(?<=[^/*])\*\*+", "*", glob))
        raise ValueError(f"** stands for folders and has no other characters beside it; write {fixed!r}")
    return re.sub(r"(?:\*\*/)+", "**/", glob)


GlobText = Annotated[str, Field(pattern=_GLOB), AfterValidator(_collapsed)]


# Where the lines of records go that were added by decision; empty until they are folded.
ADDED = "data/added.jsonl"


class _SettingsPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Citations(_SettingsPart):
    """What an answer of a category must cite."""

    pattern: str = r"\[[^\[\]]+\]"
    """Regular expression of one citation, e.g. [12] or [Smith 2020]; without look-around and back-references."""
    at_least: int = Field(default=1, ge=1)
    """The fewest citations in a completion."""
    in_prompt: bool = False
    """Whether what is cited must stand in the prompt, word for word."""


class Category(_SettingsPart):
    """The contract of one category: how it is scored, and what its completions must be."""

    scorer: str = ""
    """A metric of `train/metrics`, e.g. "exact" or "json_schema"; empty leaves the choice to the trainer."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of that metric."""
    schema_: str = Field(default="", alias="schema")
    """Path, inside the workspace, of a JSON Schema that the completion, read as JSON, must fit."""
    min_chars: int = Field(default=0, ge=0)
    """The shortest completion, in characters."""
    max_chars: int | None = Field(default=None, gt=0)
    """The longest completion, in characters."""
    language: str = Field(default="", pattern=r"^([a-z]{2,3})?$")
    """ISO 639 code of the language that completions are written in, e.g. "de"."""
    citations: Citations | None = None
    """What completions must cite; unset asks for nothing."""


class Tolerance(_SettingsPart):
    """How many findings of a check are no fault of the data set; where both are set, both must hold.

    Within it no finding of the check fails a validation or an export, errors included. Above it all of them do,
    warnings and infos too: a tolerance is a gate. Lines that cannot be read as records are never tolerated.
    """

    max_count: int | None = Field(default=None, ge=0)
    """At most so many."""
    max_rate: float | None = Field(default=None, ge=0, le=1)
    """At most this share of the records, e.g. 0.01."""


class Scope(_SettingsPart):
    """Other rules for some of the records."""

    ignore: list[str] = Field(default_factory=list)
    """Codes, names or code prefixes not to run there."""
    severity: dict[str, Severity] = Field(default_factory=dict)
    """Severity there, by code or name."""


class CheckSettings(_SettingsPart):
    """Which checks run, how severe they are, and their thresholds."""

    select: list[str] = Field(default_factory=list)
    """Codes, names or code prefixes to run; empty means all."""
    ignore: list[str] = Field(default_factory=list)
    """Codes, names or code prefixes not to run."""
    severity: dict[str, Severity] = Field(default_factory=dict)
    """Severity by code or name, in place of the check's own."""
    tolerance: dict[str, Tolerance] = Field(default_factory=dict)
    """By code or name: findings within the tolerance are counted and shown and do not fail; above it they all do."""
    per_path: dict[str, Scope] = Field(default_factory=dict)
    """Other rules for files by glob (*, ?, ** across folders) from the workspace down, e.g. "data/legacy/*.jsonl"."""
    per_category: dict[str, Scope] = Field(default_factory=dict)
    """Other rules for records by category."""
    baseline: str = ""
    """Path, inside the workspace, of a file of old findings that are counted and do not fail; see --update-baseline."""
    max_chars: int = Field(default=32_000, gt=0)
    """Q204: the longest prompt and completion together, in characters."""
    min_category: int = Field(default=30, ge=0)
    """P502: the fewest records a category should have."""
    allow_refusals: list[str] = Field(default_factory=list)
    """Q206: categories in which refusing is the right answer."""
    allow_special_tokens: bool = False
    """X705: let control tokens such as <|im_end|> stand in the data; training then encodes them as plain text."""


class DedupeSettings(_SettingsPart):
    """How near duplicates are found."""

    preset: Literal["short"] = Field(default="short", exclude=True)
    """Says nothing any more; `curate init` wrote it into every curate.toml."""
    threshold: float = Field(default=0.7, gt=0, le=1)
    """Jaccard similarity from which two records are near duplicates."""
    ngram: int = Field(default=3, gt=0, le=64)
    """Words a shingle."""
    encoder: str = ""
    """Folder of a sentence-embedding model, to find texts of the same meaning too; needs the extra `semantic`."""
    semantic_threshold: float = Field(default=0.95, gt=0, le=1)
    """Cosine similarity from which two texts mean the same."""

    @field_validator("preset", mode="before")
    @classmethod
    def _preset_is_gone(cls, value: object) -> object:
        instead = {"fineweb": "ngram = 5 and threshold = 0.75", "nemo": "ngram = 4 and threshold = 0.8"}
        if isinstance(value, str) and value in instead:
            raise ValueError(f"{value!r} is no longer there; write {instead[value]} in its place")
        return value


class LeakSettings(_SettingsPart):
    """How leaks between splits and contamination by benchmarks are found."""

    against: list[GlobText] = Field(default_factory=list)
    """Globs, inside the workspace, of benchmark files that no training record may repeat; see check P504."""
    ngram: int = Field(default=13, ge=3, le=64)
    """Words that two long texts must share in a row."""
    short_ngram: int = Field(default=8, ge=3, le=64)
    """Words in a row for texts too short for the long one."""
    max_prompts: int = Field(default=5, ge=1)
    """A run of words in more prompts than this is a template and no evidence."""


class SplitSettings(_SettingsPart):
    """How records are divided."""

    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    """Needed before anything is split; `curate init` writes one."""
    # TOML has lists alone.
    ratios: Annotated[tuple[float, float, float], Strict(False)] = (0.8, 0.1, 0.1)
    """Shares of train, validation and test."""
    group: str = ""
    """JSON pointer of a value that keeps records together (a document, a customer), e.g. "/meta/source_id"."""
    stratify: bool = True
    """Divide each category by the ratios, not only the whole."""

    @model_validator(mode="after")
    def _ratios_are_shares(self) -> SplitSettings:
        if any(share < 0 for share in self.ratios) or not abs(sum(self.ratios) - 1) <= 1e-6:
            raise ValueError(f"ratios must be shares that add up to 1, not {list(self.ratios)}")
        return self


class About(_SettingsPart):
    """What the cards and manifests of exported datasets say about them."""

    title: str = ""
    """The data set's name for people."""
    description: str = ""
    """What it is for and how it was made."""
    license: str = ""
    """SPDX identifier, e.g. "CC-BY-4.0", of every record that names no licence of its own in /meta/license."""
    creators: list[str] = Field(default_factory=list)
    """Who made it."""
    homepage: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Where it is published."""
    citation: str = ""
    """How to cite it (BibTeX)."""


class Question(_SettingsPart):
    """What annotators are asked about each record."""

    name: str = Field(min_length=1)
    """What the answers are called; the answers to "category" decide the record's category."""
    ask: str = ""
    """The question as people read it."""
    values: list[str] = Field(default_factory=list)
    """The answers to choose from; empty takes the known categories for "category", and any text for others."""
    guide: dict[str, str] = Field(default_factory=dict)
    """By answer, when it is the right one."""


class LabelSettings(_SettingsPart):
    """What annotators are asked, and who answers what."""

    questions: list[Question] = Field(default_factory=list)
    """The questions; empty asks for the category."""
    annotators: list[str] = Field(default_factory=list)
    """Who answers; empty lets anybody answer everything."""
    overlap: float = Field(default=0.0, ge=0, le=1)
    """Share of the records that a second annotator answers too, so that agreement can be measured."""
    gold: str = ""
    """Path, inside the workspace, of a JSONL file of known answers ({"id", "question", "value"}), asked like others."""
    guide: str = ""
    """Path, inside the workspace, of the guideline that annotators read, in Markdown."""

    @model_validator(mode="after")
    def _names_differ(self) -> LabelSettings:
        names = [question.name for question in self.questions]
        if len(set(names)) != len(names):
            raise ValueError(f"two questions have the same name: {sorted(names)}")
        return self


class PluginSettings(_SettingsPart):
    """Checks, fixes, importers, exporters and reports of the workspace's own."""

    path: str = ""
    """Folder, inside the workspace, of Python files; each runs once it was trusted: see `curate config trust`."""


Target = Literal["", "openai", "trl", "axolotl", "llama-factory", "together"]


class Settings(_SettingsPart):
    """Everything `curate.toml` can say."""

    schema_: str = Field(default="instruction", alias="schema")
    """A shipped schema (instruction, chat, domain) or a path inside the workspace."""
    data: list[GlobText] = Field(default_factory=lambda: ["data/*.jsonl"])
    """Globs of the record files, inside the workspace."""
    categories: dict[str, Category] = Field(default_factory=dict)
    """The known categories; empty means that any is accepted."""
    checks: CheckSettings = Field(default_factory=CheckSettings)
    dedupe: DedupeSettings = Field(default_factory=DedupeSettings)
    split: SplitSettings = Field(default_factory=SplitSettings)
    leaks: LeakSettings = Field(default_factory=LeakSettings)
    about: About = Field(default_factory=About)
    label: LabelSettings = Field(default_factory=LabelSettings)
    plugins: PluginSettings = Field(default_factory=PluginSettings)
    keys: dict[str, str] = Field(default_factory=dict)
    """Keys of the terminal UI by the id of what they do, e.g. "browse.drop" = "x"; several are parted by commas."""
    target: Target = ""
    """A trainer whose own rules are checked too (family T9): what it refuses, and what it drops without a word."""
    recipe: str = ""
    """Path of the training recipe inside the workspace; empty uses the trainer's defaults."""
    _root: Path | None = PrivateAttr(default=None)

    @property
    def root(self) -> Path | None:
        """The workspace's folder, absolute, that paths are relative to; None without contracts and plug-ins."""
        return self._root

    def at(self, root: Path) -> Settings:
        """Return these settings as those of the workspace in ``root``: it travels along to other processes."""
        placed = self.model_copy()
        placed._root = root.resolve()
        return placed
