"""The settings of a workspace: `curate.toml`, read strictly, every key known, every default visible.

These are plain dataclasses, and pydantic checks what a file puts in them: the metadata of a field is what its `Field`
takes. It is not loaded here, which takes longer than the rest of `curate validate FILE`: who has no curate.toml has
nothing to be checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast, get_args

from curate.base.record import Severity

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema
    from pydantic_core.core_schema import DataclassSchema

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


class _GlobCheck:
    """In an annotation: tells pydantic, once it asks, how a glob is checked."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(_collapsed, core_schema.str_schema(pattern=_GLOB))


GlobText = Annotated[str, _GlobCheck()]


# Where the lines of records go that were added by decision; empty until edits are applied.
ADDED = "data/added.jsonl"


class _SettingsPart:
    __pydantic_config__: ClassVar[Mapping[str, object]] = {"extra": "forbid", "strict": True}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Strict is meant for the values: a strict dataclass would refuse the dict that a table is.
        return cast("DataclassSchema", handler(source)) | {"strict": False}


@dataclass(frozen=True)
class Citations(_SettingsPart):
    """What an answer of a category must cite."""

    pattern: str = r"\[[^\[\]]+\]"
    """Regular expression of one citation, e.g. [12] or [Smith 2020]; without look-around and back-references."""
    at_least: int = field(default=1, metadata={"ge": 1})
    """The fewest citations in a completion."""
    in_prompt: bool = False
    """Whether what is cited must stand in the prompt, word for word."""


@dataclass(frozen=True)
class Category(_SettingsPart):
    """The contract of one category: how it is scored, and what its completions must be."""

    scorer: str = ""
    """A metric of `train/metrics`, e.g. "exact" or "json_schema"; empty leaves the choice to the trainer."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of that metric."""
    schema_: str = field(default="", metadata={"alias": "schema"})
    """Path, inside the workspace, of a JSON Schema that the completion, read as JSON, must fit."""
    min_chars: int = field(default=0, metadata={"ge": 0})
    """The shortest completion, in characters."""
    max_chars: int | None = field(default=None, metadata={"gt": 0})
    """The longest completion, in characters."""
    language: str = field(default="", metadata={"pattern": r"^([a-z]{2,3})?$"})
    """ISO 639 code of the language that completions are written in, e.g. "de"."""
    citations: Citations | None = None
    """What completions must cite; unset asks for nothing."""


@dataclass(frozen=True)
class Tolerance(_SettingsPart):
    """How many findings of a check are no fault of the data set; where both are set, both must hold.

    Within it no finding of the check fails a validation or an export, errors included. Above it all of them do,
    warnings and infos too: a tolerance is a gate. Lines that cannot be read as records are never tolerated.
    """

    max_count: int | None = field(default=None, metadata={"ge": 0})
    """At most so many."""
    max_rate: float | None = field(default=None, metadata={"ge": 0, "le": 1})
    """At most this share of the records, e.g. 0.01."""


@dataclass(frozen=True)
class Scope(_SettingsPart):
    """Other rules for some of the records."""

    ignore: list[str] = field(default_factory=list)
    """Codes, names or code prefixes not to run there."""
    severity: dict[str, Severity] = field(default_factory=dict)
    """Severity there, by code or name."""


@dataclass(frozen=True)
class CheckSettings(_SettingsPart):
    """Which checks run, how severe they are, and their thresholds."""

    select: list[str] = field(default_factory=list)
    """Codes, names or code prefixes to run; empty means all."""
    ignore: list[str] = field(default_factory=list)
    """Codes, names or code prefixes not to run."""
    severity: dict[str, Severity] = field(default_factory=dict)
    """Severity by code or name, in place of the check's own, e.g. Q204 = "error"."""
    tolerance: dict[str, Tolerance] = field(default_factory=dict)
    """By code or name, how many findings may stand; above it all of them fail. E.g. Q203 = { max_rate = 0.01 }."""
    per_path: dict[str, Scope] = field(default_factory=dict)
    """Other rules for files by glob (*, ?, ** across folders) from the workspace down, e.g. "data/legacy/*.jsonl"."""
    per_category: dict[str, Scope] = field(default_factory=dict)
    """Other rules for records by category, e.g. jokes = { ignore = ["Q206"] }."""
    baseline: str = ""
    """Path, inside the workspace, of a file of old findings that are counted and do not fail; see --update-baseline."""
    max_chars: int = field(default=32_000, metadata={"gt": 0})
    """Q204: the longest prompt and completion together, in characters."""
    min_category: int = field(default=30, metadata={"ge": 0})
    """P502: the fewest records a category should have."""
    allow_refusals: list[str] = field(default_factory=list)
    """Q206: categories in which refusing is the right answer."""
    allow_special_tokens: bool = False
    """X705: let control tokens such as <|im_end|> stand in the data; training then encodes them as plain text."""


@dataclass(frozen=True)
class DedupeSettings(_SettingsPart):
    """How near duplicates are found."""

    threshold: float = field(default=0.7, metadata={"gt": 0, "le": 1})
    """Jaccard similarity from which two records are near duplicates."""
    ngram: int = field(default=3, metadata={"gt": 0, "le": 64})
    """Words in a row that are compared as one (FineWeb: 5, with threshold 0.75)."""
    encoder: str = ""
    """Folder of a sentence-embedding model, to find texts of the same meaning too; needs the extra `semantic`."""
    semantic_threshold: float = field(default=0.95, metadata={"gt": 0, "le": 1})
    """Cosine similarity from which two texts mean the same."""


@dataclass(frozen=True)
class LeakSettings(_SettingsPart):
    """How leaks between splits and contamination by benchmarks are found."""

    against: list[GlobText] = field(default_factory=list)
    """Globs, inside the workspace, of benchmark files that no training record may repeat; see check P504."""
    ngram: int = field(default=13, metadata={"ge": 3, "le": 64})
    """Words that two long texts must share in a row."""
    short_ngram: int = field(default=8, metadata={"ge": 3, "le": 64})
    """Words in a row for texts too short for the long one."""
    max_prompts: int = field(default=5, metadata={"ge": 1})
    """A run of words in more prompts than this is a template and no evidence."""


@dataclass(frozen=True)
class SplitSettings(_SettingsPart):
    """How records are divided."""

    seed: int | None = field(default=None, metadata={"ge": -(2**63), "le": 2**63 - 1})
    """The same seed gives the same division, and adding records moves nobody; without one nothing is divided."""
    # TOML has lists alone.
    ratios: tuple[float, float, float] = field(default=(0.8, 0.1, 0.1), metadata={"strict": False})
    """Shares of train, validation and test."""
    group: str = ""
    """JSON pointer of a value that keeps records together (a document, a customer), e.g. "/meta/source_id"."""
    stratify: bool = True
    """Divide each category by the ratios, not only the whole."""

    def __post_init__(self) -> None:
        if any(share < 0 for share in self.ratios) or not abs(sum(self.ratios) - 1) <= 1e-6:
            raise ValueError(f"ratios must be shares that add up to 1, not {list(self.ratios)}")


@dataclass(frozen=True)
class About(_SettingsPart):
    """What the cards and manifests of exported datasets say about them."""

    title: str = ""
    """The data set's name for people."""
    description: str = ""
    """What it is for and how it was made."""
    license: str = ""
    """SPDX identifier, e.g. "CC-BY-4.0", of every record that names no licence of its own in /meta/license."""
    creators: list[str] = field(default_factory=list)
    """Who made it."""
    homepage: str = field(default="", metadata={"pattern": r"^(https?://\S+)?$"})
    """Where it is published."""
    citation: str = ""
    """How to cite it (BibTeX)."""


# The answers to which of two is better. Those who are asked see them as A and B, in an order that hangs on the record
# and on who is asked, so that nobody learns which one is chosen so far, and a liking for the first evens out.
PAIR_VALUES = ["chosen", "rejected", "tie", "both bad"]


@dataclass(frozen=True)
class Question(_SettingsPart):
    """What annotators are asked about each record."""

    name: str = field(metadata={"min_length": 1})
    """What the answers are called; the answers to "category" decide the record's category."""
    ask: str = ""
    """The question as people read it."""
    kind: Literal["choice", "several", "rating", "pair"] = "choice"
    """What it asks for: one of its values, several of them, a rating (worst to best), or the better of two answers."""
    values: list[str] = field(default_factory=list)
    """The answers to choose from; empty takes 1 to 5 for a rating, the categories for "category", and any text else."""
    guide: dict[str, str] = field(default_factory=dict)
    """By answer, when it is the right one."""

    def __post_init__(self) -> None:
        if self.kind == "pair" and self.values not in ([], PAIR_VALUES):
            raise ValueError(f"question {self.name!r} is of the kind pair, which has its own values: leave them out")
        if self.kind == "several" and self.name == "category":
            raise ValueError("a record has one category: the question cannot be of the kind several")


@dataclass(frozen=True)
class LabelSettings(_SettingsPart):
    """What annotators are asked, and who answers what."""

    questions: list[Question] = field(default_factory=list)
    """The questions, e.g. [{ name = "quality", values = ["good", "poor"] }]; empty asks for the category."""
    annotators: list[str] = field(default_factory=list)
    """Who shares the work; while nobody is named, each record asks whoever comes until it has its answers."""
    overlap: float = field(default=0.0, metadata={"ge": 0, "le": 1})
    """Share of the records that a second annotator answers too, so that agreement can be measured."""
    gold: str = ""
    """Path, inside the workspace, of a JSONL file of known answers ({"id", "question", "value"}), asked like others."""
    guide: str = ""
    """Path, inside the workspace, of the guideline that annotators read, in Markdown."""
    suggest_with: str = ""
    """The model whose likelihoods suggest answers in Label: a name of `contestants`, "base", a run or a file."""

    def __post_init__(self) -> None:
        names = [question.name for question in self.questions]
        if len(set(names)) != len(names):
            raise ValueError(f"two questions have the same name: {sorted(names)}")


ViewColumn = Literal[
    "id", "category", "status", "split", "tokens", "source", "kind", "place", "prompt", "completion", "confidence",
    "variability",
]  # fmt: skip

VIEW_COLUMNS = get_args(ViewColumn)
VIEW_SORTS = ("file", "id", "category", "split", "tokens", "prompt")


@dataclass(frozen=True)
class SavedView(_SettingsPart):
    """Some of the records under a name, for `curate list --view` and Browse."""

    where: str = ""
    """The filter that lets them through; empty takes all."""
    sort: str = field(default="", metadata={"pattern": rf"^(-?({'|'.join(VIEW_SORTS)}))?$"})
    """Their order: file, id, category, split, tokens or prompt, turned around by a - before it."""
    columns: list[ViewColumn] = field(default_factory=list)
    """What is shown of each; empty leaves that to the command or the screen."""


@dataclass(frozen=True)
class ReviewSettings(_SettingsPart):
    """Which records somebody must approve before they are exported."""

    approvals: int = field(default=0, metadata={"ge": 0})
    """How many people must approve a record; 0 asks for no approval."""
    not_author: bool = True
    """Whether the approval of somebody who wrote what the record says does not count."""
    categories: list[str] = field(default_factory=list)
    """The categories whose records need it; empty means all."""

    def asks(self, category: str) -> bool:
        """Whether records of a category need an approval."""
        return self.approvals > 0 and (not self.categories or category in self.categories)


@dataclass(frozen=True)
class PluginSettings(_SettingsPart):
    """Checks, fixes, importers, exporters and reports of the workspace's own."""

    path: str = ""
    """Folder, inside the workspace, of Python files; each runs once it was trusted: see `curate config trust`."""


@dataclass(frozen=True)
class EvalSettings(_SettingsPart):
    """What a training run is asked about the records beside their categories."""

    slices: list[str] = field(default_factory=list)
    """Fields by whose values answers are compared too: a JSON pointer, "label.QUESTION", "source", "tokens"."""

    def __post_init__(self) -> None:
        if len(set(self.slices)) != len(self.slices):
            raise ValueError(f"eval.slices has one of its fields twice: {sorted(self.slices)}")


@dataclass(frozen=True)
class ExportSettings(_SettingsPart):
    """What a dataset may hold."""

    max_machine_share: float = field(default=1.0, metadata={"ge": 0, "le": 1})
    """The largest share of records for which somebody took a model's proposal, edited or not; 1 takes any."""


Target = Literal["", "openai", "trl", "axolotl", "llama-factory", "together"]


@dataclass(frozen=True)
class Settings(_SettingsPart):
    """Everything `curate.toml` can say."""

    schema_: str = field(default="instruction", metadata={"alias": "schema"})
    """A shipped schema (instruction, chat, domain, preference) or a path inside the workspace."""
    data: list[GlobText] = field(default_factory=lambda: ["data/*.jsonl"])
    """Globs of the record files, inside the workspace."""
    categories: dict[str, Category] = field(default_factory=dict)
    """The known categories; empty means that any is accepted."""
    checks: CheckSettings = field(default_factory=CheckSettings)
    dedupe: DedupeSettings = field(default_factory=DedupeSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    leaks: LeakSettings = field(default_factory=LeakSettings)
    about: About = field(default_factory=About)
    label: LabelSettings = field(default_factory=LabelSettings)
    review: ReviewSettings = field(default_factory=ReviewSettings)
    views: dict[str, SavedView] = field(default_factory=dict)
    """Filters with an order and columns, under a name; `curate list --save` and Browse write them."""
    plugins: PluginSettings = field(default_factory=PluginSettings)
    eval: EvalSettings = field(default_factory=EvalSettings)
    export: ExportSettings = field(default_factory=ExportSettings)
    contestants: dict[str, str] = field(default_factory=dict)
    """Names of models that are asked: a run, a folder, a .gguf file, URL#MODEL, or a .toml file with url and model."""
    keys: dict[str, str] = field(default_factory=dict)
    """Keys of the terminal UI by the id of what they do, e.g. "browse.drop" = "x"; several are parted by commas."""
    target: Target = ""
    """A trainer whose own rules are checked too (family T9): what it refuses, and what it drops without a word."""
    recipe: str = ""
    """Path of the training recipe inside the workspace; empty uses the trainer's defaults."""

    def __post_init__(self) -> None:
        if self.categories and (unknown := sorted({*self.review.categories} - self.categories.keys())):
            raise ValueError(f"review.categories: there is no category {unknown[0]!r} in [categories]")

    @property
    def root(self) -> Path | None:
        """The workspace's folder, absolute, that paths are relative to; None without contracts and plug-ins."""
        return None

    def at(self, root: Path) -> Settings:
        """Return these settings as those of the workspace in ``root``: it travels along to other processes."""
        return _PlacedSettings(**{**vars(self), "root": root.resolve()})


@dataclass(frozen=True)
class _PlacedSettings(Settings):
    """The settings of a workspace, with its folder."""

    # A field of its own class: pydantic would take one of `Settings` for a key of the file.
    root: Path | None = None
