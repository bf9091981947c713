"""A small workspace with known repeats, for tests of what is built on workspaces."""

from __future__ import annotations

import copy
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from curate.project.data import ProjectData, load_data
from curate.sessions.detached import read_process
from tests.curate import fake_answers, fake_trainer
from tests.curate.troubled import SETTINGS as MESSY_SETTINGS

if TYPE_CHECKING:
    from curate.project.project import Project

MakeWorkspace = Callable[..., ProjectData]
QUESTIONS = """
[split]
seed = 1
[label]
overlap = {overlap}
annotators = {team}
gold = "{gold}"
guide = "{guide}"
[[label.questions]]
name = "topic"
ask = "What is it about?"
values = ["billing", "returns", "other"]
[[label.questions]]
name = "quality"
values = ["good", "poor"]
"""


def support_lines(count: int = 60) -> list[dict[str, Any]]:
    """Return records of two categories that all differ in most of their words."""
    return [
        {
            "id": f"r{number:03}",
            "instruction": f"Please tell item{number} apart from thing{number * 7} and from part{number * 13} today.",
            "output": f"answer{number} says that stuff{number * 3} differs{number} a lot{number * 5}.",
            "category": "billing" if number % 2 else "returns",
        }
        for number in range(count)
    ]


@pytest.fixture
def make_workspace(tmp_path: Path) -> MakeWorkspace:
    """Return a function that makes and opens a workspace below ``tmp_path``."""

    def make(
        lines: list[dict[str, Any]] | None = None, settings: str = "[split]\nseed = 1\n", name: str = "ws"
    ) -> ProjectData:
        folder = tmp_path / name
        (folder / "data").mkdir(parents=True)
        (folder / "curate.toml").write_text(settings, encoding="utf-8")
        text = "".join(json.dumps(line) + "\n" for line in (support_lines() if lines is None else lines))
        (folder / "data" / "a.jsonl").write_text(text, encoding="utf-8")
        return load_data(folder)

    return make


@pytest.fixture
def sit(make_workspace: MakeWorkspace) -> Iterator[Callable[..., Any]]:
    """Return a function that seats an annotator at a desk in one workspace, made with the first of them.

    What it is made of: ``lines``, ``files`` by name, and ``settings``, or ``overlap``, ``team``, ``gold``, ``guide``.
    """
    from curate.project.project import open_project
    from curate.sessions.labelling import LabelSession

    known: dict[str, Path] = {}
    open_ones: list[Any] = []

    def take(
        by: str = "ana", *, question: str = "", order: Any = "file", is_all: bool = False, **given: Any
    ) -> LabelSession:
        if not known:
            questions = QUESTIONS.format(
                overlap=given.get("overlap", 1.0), team=json.dumps(given.get("team", [])), gold=given.get("gold", ""),
                guide=given.get("guide", ""),
            )  # fmt: skip
            known["root"] = make_workspace(given.get("lines"), given.get("settings", questions)).root
            for name, text in given.get("files", {}).items():
                (known["root"] / name).write_text(text, encoding="utf-8")
        project = open_project(known["root"], by)
        open_ones.append(project)
        project.load()
        desk = LabelSession(project)
        open_ones.append(desk)
        desk.begin(desk.prepare(desk.wish_for(question, order, is_all=is_all)))
        return desk

    yield take
    for one in reversed(open_ones):
        one.close()


def spread(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


REASONS = {"improved": "better", "regressed": "worse", "inconclusive": "within-noise"}
LABELS = {"improved": "+ improved", "regressed": "! regressed", "inconclusive": "~ inconclusive"}
HEADS = ["category", "n", "metric", "trivial", "base", "tuned", "change", "95 %", "p", "verdict"]


def category_result(name: str, base: float, tuned: float, verdict: str) -> dict[str, Any]:
    return {
        "category": name, "metric": "exact", "higher_is_better": True, "n": 20,
        "num_clusters": 20, "num_unscored": 0, "base": spread(base), "tuned": spread(tuned),
        "difference": spread(tuned - base), "test": "mcnemar", "p": 0.01, "p_adjusted": 0.02, "better": 1, "worse": 9,
        "minimum_detectable_effect": 0.2, "verdict": verdict, "reason": REASONS[verdict], "note": "",
        "is_no_worse": False, "sentence": "", "label": LABELS[verdict], "bits_per_byte": None, "other": {},
    }  # fmt: skip


def report_table(categories: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the finished table of a report as the trainer writes it."""
    rows = [
        [row["category"], "20", "exact", "-", *(f"{row[side]['value']:.2f}" for side in ("base", "tuned")),
         f"{row['difference']['value']:+.2f}", "+.10 to +.20", ".02", row["label"]]
        for row in categories
    ]  # fmt: skip
    return {
        "part": "results", "title": "a: base against tuned on the test split", "heads": HEADS, "rows": rows,
        "sentences": ["Verdicts: + improved, better beyond chance."], "code": [], "left": ["metric", "95 %", "verdict"],
        "given_up": ["metric", "p", "trivial"], "files_only": [], "has_total": False, "is_in_terminal": True,
    }  # fmt: skip


def report_of(digest: str = "", verdict: str = "regressed") -> dict[str, Any]:
    """Return a report on two categories, of which billing has ``verdict``; ``digest`` is the dataset's."""
    categories = [category_result("billing", 0.7, 0.3, verdict), category_result("returns", 0.2, 0.8, "improved")]
    part = {
        "split": "test", "n": 40, "categories": categories, "macro": None,
    }  # fmt: skip
    return {
        "version": 1, "run": {"id": "a", "digests": {"dataset": digest} if digest else {}}, "headline": "test",
        "models": [{"name": "base", "kind": "base"}, {"name": "tuned", "kind": "run"}], "others": [],
        "splits": [part], "forgetting": None, "tables": [report_table(categories)],
        "curve": {"training": [], "validation": []}, "margin": 0.02, "resamples": 100, "notes": [],
        "remarks": [],
    }  # fmt: skip


@pytest.fixture
def make_report() -> Callable[..., dict[str, Any]]:
    """Return the function that makes a report."""
    return report_of


@pytest.fixture
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in ``tmp_path``, as commands that write beside them do."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def messy(make_workspace: MakeWorkspace, root: Path) -> ProjectData:
    """A workspace with the lines of samples/messy.jsonl, which have a fault of every kind."""
    workspace = make_workspace([], MESSY_SETTINGS)
    shutil.copy(root / "samples/messy.jsonl", workspace.root / "data/a.jsonl")
    return load_data(workspace.root)


@pytest.fixture
def project(messy: ProjectData) -> Iterator[Project]:
    """A workshop on `messy`."""
    # Screens and workshops need what commands do without.
    from curate.project.project import open_project

    with open_project(messy.root, "ana") as project:
        project.load()
        yield project


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Put the trainer that trains nothing in the way of the real one."""
    monkeypatch.setenv("PYTHONPATH", fake_trainer.install(tmp_path / "fake"))
    return fake_trainer


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[None]:
    """End what a test has left running."""
    yield
    for path in tmp_path.rglob("process.json"):
        process = read_process(path.parent)
        if process and process.is_alive:
            process.send(signal.SIGKILL)


@pytest.fixture
def hold() -> Iterator[Callable[..., Project]]:
    """Return a function that opens a workspace as a workshop, which is closed in the end."""
    from curate.project.project import open_project

    held: list[Project] = []

    def opened(workspace: ProjectData, by: str = "ana") -> Project:
        project = open_project(workspace.root, by)
        project.load()
        held.append(project)
        return project

    yield opened
    for project in held:
        project.close()


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """Return a function that has the model answer by rules; it returns what it was asked so far."""
    monkeypatch.setenv("PYTHONPATH", fake_answers.install(tmp_path / "shadow"))
    path = tmp_path / "rules.json"
    monkeypatch.setenv("FAKE_ANSWERS", str(path))

    def set_rules(rules):
        path.write_text(json.dumps(rules))
        asked = path.with_suffix(".asked")
        return lambda: [json.loads(line) for line in asked.read_text().splitlines()] if asked.exists() else []

    return set_rules


@pytest.fixture
def problems_sought_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Search for problems in a thread; a child takes as long as a whole test, and those about it are marked `child`."""
    from curate.sessions.problem_search import JOBS, Child, Job, OnProgress

    if request.node.get_closest_marker("child"):
        return

    def run(_: Child, what: str, job: Job, on_progress: OnProgress | None = None) -> object:
        # As between two processes, nobody shares what was asked and answered.
        return copy.deepcopy(JOBS[what](copy.deepcopy(job), on_progress or (lambda _: None)))

    monkeypatch.setattr(Child, "run", run)
