"""Workspaces under attack, decisions, and forged journals, for tests of the workshop."""

import json
import uuid
import zlib

import pytest

from curate.base.events import EVENTS, Add, Drop, Edit, Label
from curate.base.record import CurateError
from curate.project.data import load_data
from curate.project.journal import frame
from curate.project.project import open_project

LINES = [
    {"id": "a", "instruction": "Add 2 and 3.", "output": "5", "category": "sum"},
    {"id": "b", "instruction": "Name a colour.", "output": "Blue.", "category": "name"},
    {"instruction": "Say hello.", "output": "Hello."},
    {"instruction": "Say hello.", "output": "Hello."},
]


def made(root, lines=LINES):
    (root / "data").mkdir(parents=True)
    (root / "curate.toml").write_text("[split]\nseed = 1\n", encoding="utf-8")
    write(root, lines)
    return root


def write(root, lines, name="a"):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (root / f"data/{name}.jsonl").write_text(text, encoding="utf-8")


def opened(root, by="ana"):
    project = open_project(root, by)
    project.load()
    return project


def edit(name, **changes):
    return Edit(name, changes)


def drop(name, reason="x"):
    return Drop(name, reason=reason)


def label(name, value, question="q"):
    return Label(name, question, value)


def add(name, **line):
    return Add(name, {"instruction": "Say bye.", "output": "Bye."} | line)


def code_of(call, *args):
    with pytest.raises(CurateError) as caught:
        call(*args)
    return caught.value.code


def done(call, *args, but=()):
    """Whether it worked; it may also fail with one of the codes in ``but``."""
    try:
        call(*args)
    except CurateError as error:
        if error.code not in but:
            raise
        return False
    return True


def fresh(root):
    """What whoever opens the folder now sees of each record."""
    return {state.record.id: facts(state) for state in load_data(root).states()}


def facts(state):
    return dict(state.record.data), state.dropped, state.record.split, dict(state.record.labels), state.record.category


def events_of(root):
    return [line for path in sorted(root.glob("journal/*/*.log")) for line in path.read_bytes().splitlines()]


def forged(name, parents=(), *, session=None, seq=1, by="eve", event=None, op="drop", **fields):
    number = event or uuid.uuid4().hex
    said = fields or ({"reason": "forged"} if op == "drop" else {})
    line = {"op": op, "id": name, "parents": list(parents), **said}
    session = session or uuid.uuid4().hex
    event = {"event": number, "act": number, "by": by, "seq": seq, "session": session, "decision": line}
    return EVENTS.validate_json(json.dumps(event))


def plant(root, *events, name="eve/forged.log"):
    path = root / "journal" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(b"".join(frame(event) for event in events))
    return path


def newer(path):
    payload = b'{"v":99}'
    with path.open("ab") as file:
        file.write(b"%08x %b\n" % (zlib.crc32(payload), payload))


def states(project):
    return {state.record.id: state for state in project.decided()}
