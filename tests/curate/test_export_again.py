"""An unchanged workspace exports the same dataset, whatever in it repeats, was dropped, restored, assigned, pinned."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from curate.base.events import Assign, Drop, Restore
from curate.base.record import SPLITS
from curate.cli import cli
from curate.project.data import load_data
from curate.project.publish import export_dataset
from tests.curate.deciding import decide
from tests.effort import draws

SETTINGS = '[split]\nseed = {seed}\nratios = [0.4, 0.3, 0.3]\n[checks]\nignore = ["D303", "P505", "P501"]\n'
WORDS = 24
Line = dict[str, Any]


def text_of(family: int, shift: int) -> str:
    """Return words of a family: each shift changes the next of them, so that far shifts have less in common."""
    dice = random.Random(family)
    own = [f"{dice.choice('bcdfgklmnprst')}{dice.choice('aeiou')}{number}q{family}" for number in range(WORDS)]
    other = [f"v{number}x{family}" for number in range(WORDS)]
    return " ".join(other[place] if place < shift else own[place] for place in range(WORDS))


def line_of(name: str, family: int, shift: int, spelling: int, split: str | None = None) -> Line:
    text = text_of(family, shift)
    spelled = [text, text.upper(), f"  {text} "][spelling % 3]
    line = {"id": name, "instruction": spelled, "output": f"so {text} it is", "category": "a"}
    return line | ({"split": split} if split else {})


def write_lines(root: Path, name: str, lines: list[Line]) -> None:
    (root / "data" / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files of a dataset, the manifest without what tells when, where and by which version it was made."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(found.pop("manifest.json"))
    told = {key: value for key, value in manifest.items() if key not in ("created", "tool", "git", "name", "findings")}
    return found | {"manifest.json": json.dumps(told).encode()}


def assert_settled(root: Path, others: Path) -> None:
    """Export twice: the second time nothing may be new, and a copy that knows no dataset yet must come to the same."""
    copy = others / f"copy-{len(list(others.iterdir()))}"
    shutil.copytree(root, copy)
    first, _ = export_dataset(load_data(root))
    again, planned = export_dataset(load_data(root))
    assert (again.path.name, again.is_new) == (first.path.name, False)
    assert files_of(export_dataset(load_data(copy))[0].path) == files_of(first.path)
    exported = {record.id for part in planned.by_split.values() for record in part}
    decided = load_data(root).exclusions()
    for one in planned.dropped:
        # A rule names a record that is there to read; a decision names the one that it was about, wherever that is now.
        assert one.code not in ("D301", "D302") or one.kept in exported or one.id in decided, one


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


NAMES = [f"r{number}" for number in range(14)]
RECORD = st.tuples(
    st.integers(0, 2), st.integers(0, 8), st.integers(0, 2), st.sampled_from([None, None, None, None, *SPLITS])
)
DECISION = st.tuples(
    st.sampled_from(["drop", "restore", "restore", "assign"]), st.sampled_from(NAMES), st.sampled_from(SPLITS)
)


def decide_each(root: Path, decisions: list[tuple[str, str, str]]) -> None:
    workspace = load_data(root)
    known = {state.record.id for state in workspace.states()}
    for op, name, split in decisions:
        decision = {"drop": Drop(name, "by hand"), "restore": Restore(name), "assign": Assign(name, split)}[op]
        if name in known:
            workspace = decide(workspace, [decision])


@pytest.mark.ci
@settings(
    max_examples=draws(25),
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(RECORD, min_size=2, max_size=9),
    st.lists(DECISION, max_size=4),
    st.lists(RECORD, max_size=5),
    st.lists(DECISION, max_size=4),
    st.booleans(),
    st.integers(1, 5),
    st.booleans(),
)
def test_an_unchanged_workspace_exports_the_same(old, before, new, after, is_applied, seed, is_read_first):
    with tempfile.TemporaryDirectory() as folder:
        root, others = Path(folder) / "ws", Path(folder) / "others"
        (root / "data").mkdir(parents=True)
        others.mkdir()
        (root / "curate.toml").write_text(SETTINGS.format(seed=seed), encoding="utf-8")
        write_lines(root, "m.jsonl", [line_of(f"r{n}", *one) for n, one in enumerate(old)])
        # Something always goes into the dataset.
        write_lines(root, "z.jsonl", [line_of("always", 9, 0, 0)])
        decide_each(root, before)
        assert_settled(root, others)
        more = [line_of(f"r{n}", *one) for n, one in enumerate(new, start=len(old))]
        write_lines(root, "a.jsonl" if is_read_first else "n.jsonl", more)
        decide_each(root, after)
        if is_applied:
            assert run("dedupe", str(root), "--apply", "keep-first").exit_code == 0
        assert_settled(root, others)


def test_the_command_says_that_nothing_has_changed(make_workspace):
    """Of a chain the second record goes because of the first, and is nearer to the third, which is exported."""
    root = make_workspace(
        [line_of(f"r{n}", 0, shift, 0) for n, shift in enumerate([0, 2, 3])], SETTINGS.format(seed=1)
    ).root
    assert run("export", str(root)).exit_code == 0
    again = run("export", str(root))
    assert again.stdout.strip() == str(root / "dataset" / "v1")
    assert "nothing has changed since v1" in again.stderr
    assert [path.name for path in (root / "dataset").iterdir()] == ["v1"]
    (dropped,) = [json.loads(line) for line in (root / "dataset/v1/dropped.jsonl").read_text().splitlines()]
    assert (dropped["id"], dropped["code"], dropped["kept"]) == ("r1", "D302", "r2")


def test_restoring_a_record_puts_no_exported_one_out(make_workspace):
    """The restored record stands before the one that was exported in its place; both stay in every export."""
    lines = [line_of("first", 0, 0, 0), line_of("second", 0, 0, 1), line_of("other", 1, 0, 0)]
    workspace = make_workspace(lines, SETTINGS.format(seed=1))
    workspace = decide(workspace, [Drop("first", reason="off topic")])
    export_dataset(workspace)
    export_dataset(decide(workspace, [Restore("first")]))
    made, _ = export_dataset(load_data(workspace.root))
    assert (made.path.name, made.is_new) == ("v2", False)
    assert {row["id"] for part in made.rows.values() for row in part} == {"first", "second", "other"}
