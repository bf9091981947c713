"""Whatever people do to files and records in any order, a decision stands on the text it was made about, or waits."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import curate
from curate.base.record import Record
from curate.project.fold import HELD_BACK
from tests.curate.called import call
from tests.effort import draws
from tests.promises.outside import Row, read_rows, write_rows

SETTINGS = '[label]\nquestions = [{name = "tone", values = ["warm", "cold"]}]\n'


def text_of(row: Row) -> str:
    return f"{row['instruction']} {row['output']}"


def without_id(row: Row) -> Row:
    return {key: value for key, value in row.items() if key != "id"}


def records_of(project: curate.Project) -> list[Record]:
    """Return the records as the files say them, without what is no record."""
    return [item for item in project.data.read_lines() if isinstance(item, Record)]


class Work:
    """A workspace of two files, and what was decided on which text."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root, self.rng, self.count = root, rng, 0
        self.decided: dict[tuple[str, str], list[Any]] = defaultdict(list)
        (root / "curate.toml").write_text(SETTINGS)
        self.write({name: [self.row() for _ in range(4)] for name in ("a.jsonl", "b.jsonl")})

    def row(self) -> Row:
        self.count += 1
        own = {"id": f"r{self.count}"} if self.rng.random() < 0.7 else {}
        blanks = self.rng.choice(["", "\u200b"])
        return {**own, "instruction": f"Question {self.count}?{blanks}", "output": f"Answer {self.count}."}

    def read(self) -> dict[str, list[Row]]:
        return {path.name: read_rows(path) for path in sorted((self.root / "data").glob("*.jsonl"))}

    def write(self, files: dict[str, list[Row]]) -> None:
        for path in (self.root / "data").glob("*.jsonl"):
            path.unlink()
        for name, rows in files.items():
            write_rows(self.root / "data" / name, rows)

    def decide(self) -> None:
        with curate.open(self.root, self.rng.choice(["ana", "bo"])) as project:
            lines = {record.id: record.data for record in records_of(project)}
            name = self.rng.choice(sorted(lines))
            what, value = self.rng.choice([("drop", "bad"), ("label", "warm"), ("label", "cold"), ("edit", "Mended.")])
            made = {
                "drop": lambda: curate.Drop(name, reason=value),
                "label": lambda: curate.Label(name, question="tone", value=value),
                "edit": lambda: curate.Edit(name, {"output": f"{value} {self.count}"}),
            }[what]()
            project.apply([made])
            self.decided[what, text_of(lines[name])].append(f"{value} {self.count}" if what == "edit" else value)

    def undo(self) -> None:
        with curate.open(self.root, self.rng.choice(["ana", "bo"])) as project:
            project.undo()

    def rearrange(self) -> None:
        """Do with the lines what an editor, a script or a merge does."""
        files = self.read()
        rows = self.rng.choice([some for some in files.values() if some] or [[self.row()]])
        at = self.rng.randrange(len(rows))
        match self.rng.randrange(8):
            case 0:
                self.rng.shuffle(rows)
            case 1:
                rows[at]["instruction"] = self.row()["instruction"]
            case 2:
                files["0.jsonl"] = [*files.get("0.jsonl", []), rows.pop(at)]
            case 3:
                del rows[at]
            case 4:
                rows.insert(at, self.row())
            case 5:
                one, other = rows[at], self.rng.choice(rows)
                one["instruction"], other["instruction"] = other["instruction"], one["instruction"]
            case 6:
                rows.append({**rows[at], "output": self.rng.choice([rows[at]["output"], self.row()["output"]])})
            case 7:
                files = {f"z{name}": some for name, some in files.items()}
        self.write(files)

    def bring_in(self) -> None:
        """Import copies of rows and a new one, without ids, into a file that comes before or after the others."""
        before, rows = self.places(), [row for rows in self.read().values() for row in rows]
        copies = [without_id(row) for row in [*rows, self.row()] if self.rng.random() < 0.4] or [self.row()]
        name = self.rng.choice(["0", "z"]) + str(self.count)
        said = call("import", write_rows(self.root / "from" / f"{name}.jsonl", copies), "--into", self.root)
        assert said.exit_code == 0, said.stderr
        after = self.places()
        assert {place: after[place] for place in before} == before

    def mend(self) -> None:
        """Let the product rewrite the lines; what was decided on a line may stand on what it says now."""
        before, texts = self.places(), {name: [*map(text_of, rows)] for name, rows in self.read().items()}
        call("validate", "--fix", self.root)
        for name, rows in self.read().items():
            for old, row in zip(texts[name], rows, strict=True):
                for what in ("drop", "label", "edit") if text_of(row) != old else ():
                    self.decided[what, text_of(row)] += self.decided[what, old]
        after = self.places()
        assert {place: after[place][:2] for place in before} == {place: state[:2] for place, state in before.items()}

    def places(self) -> dict[tuple[str, int], Any]:
        """Return what has become of the record on each line."""
        states = self.states()
        with curate.open(self.root, "eve") as project:
            records = records_of(project)
        return {(record.source.file, record.source.line): states[record.id, text_of(record.data)] for record in records}

    def states(self) -> dict[tuple[str, str], tuple[Any, ...]]:
        """Return what each record has come to, by its id and the text of its line; nothing of it is of another text."""
        seen = {}
        with curate.open(self.root, "eve") as project:
            for record in records_of(project):
                state, text = project.state(record.id), text_of(record.data)
                answers, said = state.answers.get("tone", {}), state.record.data["output"]
                if state.exclusion and state.exclusion.code != HELD_BACK:
                    assert self.decided["drop", text], f"{text} is out, and nobody dropped it"
                assert {*answers.values()} <= {*self.decided["label", text]}, f"{text} has an answer to another text"
                assert said in [record.data["output"], *self.decided["edit", text]], f"{text} has another's edit"
                seen[record.id, text] = state.dropped, sorted(answers.items()), said
        return seen


@pytest.mark.parametrize("seed", range(draws(60)))
def test_a_decision_never_stands_on_another_text(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    work, before = Work(tmp_path, rng), {}
    for _ in range(16):
        does = rng.choice([work.decide] * 3 + [work.rearrange] * 3 + [work.undo, work.bring_in, work.mend])
        does()
        after = work.states()
        if does == work.rearrange:
            assert {key: before[key] for key in after.keys() & before} == {
                key: after[key] for key in after.keys() & before
            }
        before = after


@pytest.mark.parametrize("seed", range(draws(60)))
def test_a_file_that_grew_and_changed_comes_to_what_one_import_makes(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    (tmp_path / "other").mkdir()
    work, alone = Work(tmp_path, rng), Work(tmp_path / "other", rng)
    alone.write(work.read())
    copies = [row for rows in work.read().values() for row in rows]
    rows = [work.row() for _ in range(6)]
    for _ in range(4):
        path = write_rows(tmp_path / "from" / "more.jsonl", rows)
        made = call("import", path, "--into", tmp_path, *["--update"] * (tmp_path / "data" / "more.jsonl").exists())
        assert made.exit_code == 0, made.stderr
        for row in [row for row in rows if "id" in row and rng.random() < 0.3]:
            row["output"] = work.row()["output"]
        rows += rng.choice([[work.row()], [without_id(rng.choice(copies))], []])
        rng.shuffle(rows)
    write_rows(path, rows)
    for into, words in ((tmp_path, ["--update"]), (tmp_path / "other", [])):
        assert call("import", path, "--into", into, *words).exit_code == 0
    assert work.states().keys() == alone.states().keys()
