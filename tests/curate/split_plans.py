"""Records that join and leave, and what a split makes of them, for tests of plans."""

from __future__ import annotations

import json
from dataclasses import replace

from click.testing import CliRunner

from curate.base.record import Record, Source
from curate.cli import cli
from curate.project.data import load_data
from curate.sessions.splitting import preview, read_basis

EASY = '[split]\nseed = 1\n[checks]\nignore = ["P5", "D3", "B8"]\n'


def seen_of(workspace, fixes=None, **more):
    basis = read_basis(workspace)
    return preview(basis, replace(workspace.settings.split, **more), fixes)


def add(workspace, *lines):
    path = workspace.root / "data" / "more.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return load_data(workspace.root)


def fresh(number):
    return {
        "id": f"new{number:03}",
        "instruction": f"Compare number{number} with digit{number * 17} and letter{number * 23} please.",
        "output": f"reply{number} is unlike reply{number * 29} in part{number * 31}.",
        "category": "billing",
    }


def another_answer_to(workspace, name, new):
    line = next(dict(record.data) for record in workspace.records() if record.id == name)
    line.pop("split", None)
    return {**line, "id": new, "output": "Quite another answer, which nobody has given before to anyone."}


def run(*arguments):
    return CliRunner().invoke(cli, [str(one) for one in arguments])


def record(name, category="billing", **more):
    return Record(id=name, kind="instruction", source=Source("data/a.jsonl", 1), data={}, category=category, **more)
