"""`curate import --update`: a file that has grown or changed, and what people decided on its records meanwhile."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner, Result

from curate.base.events import Approve, Assign, Decision, Drop, Edit, Label
from curate.base.record import CurateError
from curate.cli.apply_edits import command as apply_edits
from curate.cli.import_ import command
from curate.cli.review import command as review
from curate.project.project import Project, open_project

# Rows that are reworded, and not other ones, keep half of their words.
SAID = "What is said of it here and now is"
ROWS = [{"id": f"r{n}", "instruction": f"{SAID} question {n}?", "output": f"{SAID} {n * 7}."} for n in range(6)]
Rows = list[dict[str, Any]]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CURATE_ANNOTATOR", "importer")
    root = tmp_path / "w"
    root.mkdir()
    (root / "curate.toml").write_text('schema = "instruction"\n')
    return root


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def put(root: Path, rows: Rows, *options: str, name: str = "faq.jsonl") -> Result:
    source = root.parent / name
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return CliRunner().invoke(command, [str(source), "--into", str(root), *options])


def update(root: Path, rows: Rows, *options: str) -> str:
    result = put(root, rows, "--update", *options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output


def lines(root: Path) -> Rows:
    return [json.loads(line) for line in (root / "data/faq.jsonl").read_text().splitlines()]


def decide(root: Path, *decisions: Decision, by: str = "ana") -> None:
    with open_project(root, by) as project:
        project.apply(decisions)


def opened(root: Path, ask: Callable[[Project], Any]) -> Any:
    with open_project(root, "ana") as project:
        project.load()
        return ask(project)


def output(root: Path, name: str) -> Any:
    return opened(root, lambda project: project.state(name).record.data["output"])


def conflicts(root: Path) -> list[tuple[str, str]]:
    return sorted((item.record, item.facet[1]) for item in opened(root, lambda project: project.conflicts()))


def test_a_grown_file_says_what_to_type_and_then_just_works(workspace: Path) -> None:
    put(workspace, ROWS[:4])
    before = (workspace / "data/faq.jsonl").read_bytes()
    refused = put(workspace, ROWS).exception
    assert isinstance(refused, CurateError)
    assert (refused.code, "add --update" in refused.hint) == ("E919 would-overwrite", True)
    text = update(workspace, ROWS)
    assert "6 records, 2 added, 0 changed, 4 unchanged, 0 gone, written" in text
    assert "added    r4" in text
    assert (workspace / "data/faq.jsonl").read_bytes().startswith(before)
    assert lines(workspace) == ROWS


def test_a_dry_run_says_the_same_and_writes_nothing(workspace: Path) -> None:
    put(workspace, ROWS[:5])
    rows = [ROWS[0], ROWS[1] | {"output": f"{SAID} anew."}, *ROWS[3:]]
    decide(workspace, Edit("r1", {"output": "Ana's."}))
    before = tree(workspace)
    dry = update(workspace, rows, "--dry-run", "--drop-gone")
    assert tree(workspace) == before
    wet = update(workspace, rows, "--drop-gone")
    assert dry.replace("would be ", "").replace("nothing was written\n", "") == wet
    assert "1 added, 1 changed, 3 unchanged, 1 gone" in wet
    before = tree(workspace)
    assert "1 gone" not in update(workspace, rows, "--drop-gone")
    assert tree(workspace) == before
    schema = json.loads((Path(__file__).parents[2] / "schemas/import.schema.json").read_bytes())
    jsonschema_rs.validator_for(schema).validate(tomllib.loads(before["imports/faq.toml"].decode()))


def test_lines_keep_their_order_and_bytes_and_new_ones_come_where_the_file_has_them(workspace: Path) -> None:
    put(workspace, ROWS[:3])
    target = workspace / "data/faq.jsonl"
    spaced = b'\xef\xbb\xbf{ "id":"r0", "instruction": "Question 0?",\t"output":"The answer is 0."}\r\n'
    own = b'{"id":"mine","instruction":"By hand?","output":"Yes."}\r\n'
    rest = target.read_bytes().splitlines()[1:]
    target.write_bytes(spaced + own + b"\r\n" + b"no record\r\n" + b"\r\n".join(rest))
    update(workspace, [ROWS[4], ROWS[0], ROWS[5], ROWS[1] | {"output": f"{SAID} anew."}, ROWS[2], ROWS[3]])
    content = target.read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    assert spaced[3:] in content
    assert own + b"\r\n" + b"no record\r\n" in content
    ids = [json.loads(line)["id"] for line in content[3:].splitlines() if line.startswith(b"{")]
    assert ids == ["r4", "r0", "r5", "mine", "r1", "r2", "r3"]
    # The last line had no end; what comes after it has a plain one.
    assert (content.count(b"\n"), content.count(b"\r\n")) == (9, 7)


def test_a_file_without_lines_is_filled(workspace: Path) -> None:
    put(workspace, ROWS[:2])
    (workspace / "data/faq.jsonl").write_bytes(b"")
    (workspace / "imports/faq.toml").unlink()
    update(workspace, ROWS)
    assert lines(workspace) == ROWS


def test_what_people_changed_holds_and_the_source_stands_beside_it_until_it_is_settled(workspace: Path) -> None:
    put(workspace, ROWS)
    decide(workspace, Edit("r1", {"output": "Ana's."}), Label("r1", "tone", "kind"), Assign("r1", "test"))
    decide(workspace, Edit("r2", {"instruction": "Ana's question?"}), Approve("r2"))
    rows = [ROWS[0], ROWS[1] | {"output": f"{SAID} anew."}, ROWS[2] | {"output": f"{SAID} two anew."}, *ROWS[3:]]
    assert "changed in the file and by people: 1 record (r1)" in update(workspace, rows)
    assert (output(workspace, "r1"), conflicts(workspace)) == ("Ana's.", [("r1", "output")])
    # Of another key nothing is contradicted, and the approval was of other content.
    assert opened(workspace, lambda p: p.state("r2").record.data) == rows[2] | {"instruction": "Ana's question?"}
    state = opened(workspace, lambda project: project.state("r1"))
    assert (state.record.split, state.answers["tone"]) == ("test", {"ana": "kind"})
    # The source says something else once more: what it said before is no side any more.
    rows[1] = ROWS[1] | {"output": f"{SAID} anew again."}
    update(workspace, rows)
    shown = CliRunner().invoke(review, [str(workspace), "--plain"], input="2\n").output
    assert "1 Ana's.   ana" in shown
    assert "anew again.   faq.jsonl" in shown
    assert f"{SAID} anew." not in shown
    assert (output(workspace, "r1"), conflicts(workspace)) == (f"{SAID} anew again.", [])
    # What was settled is contradicted by the next change only, and not if the source comes to say the same.
    update(workspace, rows)
    assert conflicts(workspace) == []
    rows[1] = ROWS[1] | {"output": f"{SAID} a third."}
    update(workspace, rows)
    assert (output(workspace, "r1"), conflicts(workspace)) == (f"{SAID} anew again.", [("r1", "output")])
    rows[1] = ROWS[1] | {"output": f"{SAID} anew again."}
    update(workspace, rows)
    assert conflicts(workspace) == []


@pytest.mark.parametrize("number", range(20))
def test_a_persons_edit_holds_whatever_session_it_was_made_in(workspace: Path, number: int) -> None:
    put(workspace, ROWS)
    decide(workspace, Edit("r1", {"output": f"Ana's {number}."}))
    update(workspace, [ROWS[0], ROWS[1] | {"output": f"{SAID} anew."}, *ROWS[2:]])
    assert output(workspace, "r1") == f"Ana's {number}."


def test_to_take_back_the_edit_leaves_what_the_source_says(workspace: Path) -> None:
    put(workspace, ROWS)
    decide(workspace, Edit("r1", {"output": "Ana's."}))
    update(workspace, [ROWS[0], ROWS[1] | {"output": f"{SAID} anew."}, *ROWS[2:]])
    opened(workspace, lambda project: project.undo())
    assert (output(workspace, "r1"), conflicts(workspace)) == (f"{SAID} anew.", [])


def test_a_line_changed_in_the_record_file_stays_and_is_an_item_where_the_source_changes_it_too(
    workspace: Path,
) -> None:
    put(workspace, ROWS)
    target = workspace / "data/faq.jsonl"
    target.write_text(target.read_text().replace("now is 7.", "now is seven.").replace("is 14.", "is fourteen."))
    rows = [ROWS[0], ROWS[1] | {"output": f"{SAID} anew."}, ROWS[2], *ROWS[3:]]
    text = update(workspace, rows)
    assert "changed in the file and by people: 1 record (r1)" in text
    assert (output(workspace, "r1"), output(workspace, "r2")) == (f"{SAID} seven.", f"{SAID} fourteen.")
    assert conflicts(workspace) == [("r1", "output")]
    before = tree(workspace)
    update(workspace, rows)
    assert tree(workspace) == before


def test_a_line_changed_by_hand_under_an_edit_is_there_once_the_edit_is_taken_back(workspace: Path) -> None:
    put(workspace, ROWS)
    target = workspace / "data/faq.jsonl"
    target.write_text(target.read_text().replace("now is 7.", "now is seven."))
    decide(workspace, Edit("r1", {"output": "Ana's."}))
    update(workspace, [ROWS[0], ROWS[1] | {"output": f"{SAID} anew."}, *ROWS[2:]])
    assert (output(workspace, "r1"), conflicts(workspace)) == ("Ana's.", [("r1", "output")])
    opened(workspace, lambda project: project.undo())
    assert (output(workspace, "r1"), conflicts(workspace)) == (f"{SAID} seven.", [("r1", "output")])


def test_what_was_applied_to_the_lines_is_no_change_of_the_source(workspace: Path) -> None:
    put(workspace, ROWS)
    decide(workspace, Edit("r1", {"output": "Ana's."}), Edit("r2", {"output": "Ana's two."}))
    assert CliRunner().invoke(apply_edits, [str(workspace)]).exit_code == 0
    rows = [ROWS[0], ROWS[1], ROWS[2] | {"output": f"{SAID} anew."}, *ROWS[3:]]
    update(workspace, rows)
    assert (output(workspace, "r1"), output(workspace, "r2")) == ("Ana's.", "Ana's two.")
    assert conflicts(workspace) == [("r2", "output")]


def test_records_without_an_id_are_known_by_a_key_and_keep_their_name(workspace: Path) -> None:
    rows = [
        {"instruction": f"{SAID} question {n}?", "output": f"{SAID} yes, {n}.", "ticket": f"t{n}"} for n in range(3)
    ]
    put(workspace, rows)
    names = opened(workspace, lambda project: project.data.names())
    decide(workspace, Label(names[1], "tone", "kind"))
    rows[1]["output"] = f"{SAID} no."
    text = update(workspace, rows, "--key", "ticket")
    assert "0 added, 1 changed, 2 unchanged, 0 gone" in text
    assert opened(workspace, lambda project: project.data.names()) == names
    assert opened(workspace, lambda project: project.state(names[1]).answers["tone"]) == {"ana": "kind"}
    # The key is known from the last time.
    rows[1]["output"] = f"{SAID} perhaps."
    rows.append({"instruction": "New?", "output": "New."})
    text = update(workspace, rows)
    assert "1 added, 1 changed, 2 unchanged, 0 gone" in text
    assert "without ticket: 1 record" in text
    assert output(workspace, names[1]) == f"{SAID} perhaps."


def test_without_a_key_a_changed_record_that_has_no_id_is_one_gone_and_one_added(workspace: Path) -> None:
    rows = [{"instruction": f"{SAID} question {n}?", "output": f"{SAID} yes, {n}."} for n in range(3)]
    put(workspace, [*rows, rows[0]])
    text = update(workspace, [rows[0], rows[1] | {"output": "No."}, rows[2], rows[0]])
    assert "1 added, 0 changed, 3 unchanged, 1 gone" in text
    assert len(lines(workspace)) == 5


def test_a_key_that_no_record_has_is_refused(workspace: Path) -> None:
    put(workspace, ROWS)
    refused = put(workspace, ROWS, "--update", "--key", "/ticket").exception
    assert isinstance(refused, CurateError)
    assert refused.number == "E908"
    refused = put(workspace, ROWS, "--update", name="other.jsonl").exception
    assert isinstance(refused, CurateError)
    assert refused.number == "E904"
    assert "go with --update" in put(workspace, ROWS, "--key", "/id").output


def test_gone_records_stay_or_are_dropped_and_their_return_is_told(workspace: Path) -> None:
    put(workspace, ROWS)
    text = update(workspace, ROWS[:4])
    assert "gone from the file: 2 records (r4, r5); they stay" in text
    # What stays is not shown as removed.
    assert "removed  r4" not in text
    assert "0 changed, 4 unchanged, 2 gone" in text
    assert "removed  r4" in update(workspace, ROWS[:4], "--dry-run", "--drop-gone")
    assert len(opened(workspace, lambda project: project.data.records())) == 6
    update(workspace, ROWS[:4], "--drop-gone")
    assert opened(workspace, lambda project: project.data.dropped()) == dict.fromkeys(
        ("r4", "r5"), "gone from faq.jsonl"
    )
    assert "in the file again, and still dropped: 1 record (r5)" in update(workspace, [*ROWS[:4], ROWS[5]])
    changed = {**ROWS[5], "category": "other"}
    assert "changed or in the file again, and still dropped: 1 record (r5)" in update(workspace, [*ROWS[:4], changed])
    with open_project(workspace, "importer") as project:
        undone = project.undo()
        assert undone is not None
        assert sorted(undone.ids) == ["r4", "r5"]
    assert len(opened(workspace, lambda project: project.data.records())) == 6


def test_lines_that_people_took_out_or_added_are_theirs(workspace: Path) -> None:
    put(workspace, ROWS)
    target = workspace / "data/faq.jsonl"
    mine = '{"id": "mine", "instruction": "By hand?", "output": "Yes."}\n'
    target.write_text(mine + "".join(line for line in target.read_text().splitlines(True) if '"r2"' not in line))
    text = update(workspace, ROWS)
    assert "0 added, 0 changed, 5 unchanged, 0 gone" in text
    assert "taken out of the record file here: 1 record" in text
    # A record that people and the source both have added is one of which they say different things.
    text = update(workspace, [*ROWS, {"id": "mine", "instruction": "By hand?", "output": "No."}])
    assert (output(workspace, "mine"), conflicts(workspace)) == ("Yes.", [("mine", "output")])
    assert [line["id"] for line in lines(workspace)] == ["mine", "r0", "r1", "r3", "r4", "r5"]


@pytest.mark.parametrize("place", ["write_atomic", "apply", "write_note"])
def test_a_crash_loses_nothing_and_the_next_update_goes_on(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    put(workspace, ROWS)
    decide(workspace, Edit("r1", {"output": "Ana's."}))
    rows = [
        ROWS[0],
        ROWS[1] | {"output": f"{SAID} anew."},
        *ROWS[3:],
        {"id": "r9", "instruction": "New?", "output": "Yes."},
    ]

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        where = {
            "write_atomic": "curate.jsonl.rewrite.write_atomic",
            "apply": "curate.project.project.Project.apply",
            "write_note": "curate.project.update.write_note",
        }
        patch.setattr(where[place], crash)
        put(workspace, rows, "--update", "--drop-gone")
    assert output(workspace, "r1") == "Ana's."
    update(workspace, rows, "--drop-gone")
    assert (output(workspace, "r1"), conflicts(workspace)) == ("Ana's.", [("r1", "output")])
    assert [line["id"] for line in lines(workspace)] == ["r0", "r1", "r2", "r3", "r4", "r5", "r9"]
    assert opened(workspace, lambda project: project.data.dropped().keys()) == {"r2"}
    before = tree(workspace)
    update(workspace, rows, "--drop-gone")
    assert tree(workspace) == before


def test_a_damaged_note_is_refused_and_without_one_all_lines_count_as_the_sources(workspace: Path) -> None:
    put(workspace, ROWS)
    note = workspace / "imports/faq.toml"
    note.write_text('format = "workspace"\ncolumn = "r0"\n')
    refused = put(workspace, ROWS[:5], "--update").exception
    assert isinstance(refused, CurateError)
    assert refused.number == "E993"
    note.unlink()
    text = update(workspace, [ROWS[0] | {"output": f"{SAID} anew."}, *ROWS[1:5]])
    assert "0 added, 1 changed, 4 unchanged, 1 gone" in text
    assert "nothing says what the last import took" in text
    assert output(workspace, "r0") == f"{SAID} anew."


class Model:
    """What must hold whatever the source and people do: for each record and key, who said what, and when."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random, self.step = root, random.Random(seed), 0
        self.rows: Rows = [dict(row) for row in ROWS]
        self.imported = {row["id"]: dict(row) for row in self.rows}
        self.acts: list[tuple[str, str, str, int]] = []
        """Of ana, in their order: the record, the key, its value, when."""
        self.contested: dict[tuple[str, str], tuple[str, int]] = {}
        self.by_hand: dict[tuple[str, str], str] = {}
        self.others: dict[str, set[str]] = {"label": set(), "drop": set(), "assign": set(), "approve": set()}
        self.mine: list[str] = []
        self.decided: set[str] = set()

    def change_source(self) -> None:
        """Let the file grow, change, and lose rows."""
        for _ in range(self.random.randint(0, 3)):
            row = {
                "id": f"s{self.step}-{len(self.rows)}-{self.random.random()}",
                "instruction": f"{SAID} new, {self.random.random()}?",
                "output": f"{SAID} yes.",
            }
            self.rows.insert(self.random.randint(0, len(self.rows)), row)
        for row in self.rows:
            if self.random.random() < 0.25:
                row[self.random.choice(["instruction", "output"])] = f"{SAID} {self.random.random()}."
        if self.random.random() < 0.5 and len(self.rows) > 2:
            del self.rows[self.random.randrange(len(self.rows))]

    def standing(self, name: str, key: str) -> tuple[str, int] | None:
        """Return the last value that ana gave and has not taken back."""
        return next(((value, at) for who, what, value, at in reversed(self.acts) if (who, what) == (name, key)), None)

    def change_here(self, project: Project) -> None:
        """Let people edit, label, drop, split, approve and take back."""
        name = self.random.choice(sorted(self.imported))
        key = self.random.choice(["instruction", "output"])
        what = self.random.choice(["edit", "edit", "edit", "undo", "hand", "label", "drop", "assign", "approve", "add"])
        others: dict[str, Decision] = {
            "label": Label(name, "tone", "kind"),
            "drop": Drop(name, "off topic"),
            "assign": Assign(name, "test"),
            "approve": Approve(name),
        }
        if what == "edit":
            value = f"{SAID} for Ana {self.random.random()}."
            project.apply([Edit(name, {key: value})])
            self.acts.append((name, key, value, self.step))
            self.decided.add(name)
        elif what == "undo" and self.acts:
            # Sessions of one second may stand in another order than they had here.
            undone = project.undo()
            assert undone is not None
            event = undone.events[0]
            self.acts = [act for act in self.acts if {act[1]: act[2]} != event.decision.changes or act[0] != event.id]
        elif what in others:
            decide(self.root, others[what], by="bo")
            self.others[what].add(name)
            self.decided.add(name)
        elif what in ("hand", "add"):
            target = self.root / "data/faq.jsonl"
            lines_ = [json.loads(line) for line in target.read_text().splitlines()]
            if what == "add":
                self.mine.append(f"mine{self.step}-{self.random.random()}")
                lines_.insert(0, {"id": self.mine[-1], "instruction": "By hand?", "output": "Yes."})
            elif name not in self.decided:
                # Once something is decided on a record, it would be held back for another text.
                self.by_hand[name, key] = f"{SAID} by hand {self.random.random()}."
                next(line for line in lines_ if line["id"] == name)[key] = self.by_hand[name, key]
            target.write_text("".join(json.dumps(line) + "\n" for line in lines_))

    def expected_counts(self) -> str:
        """Return what the update has to count, and take the source for imported."""
        names = {row["id"] for row in self.rows}
        added = [row for row in self.rows if row["id"] not in self.imported]
        changed = [row for row in self.rows if row["id"] in self.imported and self.imported[row["id"]] != row]
        gone = self.imported.keys() - names - self.others["drop"]
        for row in changed:
            for key in ("instruction", "output"):
                if row[key] != self.imported[row["id"]][key]:
                    spot = row["id"], key
                    if self.standing(*spot) or spot in self.by_hand:
                        self.contested[spot] = row[key], self.step
                        self.decided.add(row["id"])
        self.imported |= {row["id"]: dict(row) for row in self.rows}
        num_same = len(self.rows) - len(added) - len(changed)
        return f"{len(added)} added, {len(changed)} changed, {num_same} unchanged, {len(gone)} gone"

    def check(self) -> None:
        """Hold the workspace against what was done."""
        with open_project(self.root, "ana") as project:
            project.load()
            found = {(item.record, item.facet[1]) for item in project.conflicts()}
            for name, row in self.imported.items():
                state = project.state(name)
                for key in ("instruction", "output"):
                    own, theirs = self.standing(name, key), self.contested.get((name, key))
                    people = own[0] if own else self.by_hand.get((name, key))
                    assert state.record.data[key] == (people or row[key]), (name, key)
                    is_open = people is not None and theirs is not None and (not own or own[1] <= theirs[1])
                    assert ((name, key) in found) == is_open, (name, key, own, theirs)
                assert (state.dropped is not None) == (name in self.others["drop"])
                assert ("tone" in state.answers) == (name in self.others["label"])
                assert (state.record.split == "test") == (name in self.others["assign"])
                assert ("approve" in {event.op for event in project.history(name)}) == (name in self.others["approve"])
            assert project.data.names().count("r0") == 1
            assert set(project.data.names()) == {*self.imported, *self.mine}


@pytest.mark.ci
@pytest.mark.parametrize("seed", range(50))
def test_whatever_both_sides_change_nothing_is_lost_and_the_counts_are_right(workspace: Path, seed: int) -> None:
    model = Model(workspace, seed)
    put(workspace, model.rows)
    for model.step in range(1, 6):
        with open_project(workspace, "ana") as project:
            for _ in range(model.random.randint(0, 5)):
                project.reload()
                model.change_here(project)
        model.change_source()
        expected = model.expected_counts()
        text = update(workspace, model.rows)
        assert expected in text, (expected, text)
        model.check()
        before = tree(workspace)
        assert " 0 added, 0 changed," in update(workspace, model.rows)
        assert tree(workspace) == before
