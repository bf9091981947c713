"""Each of the eight beginnings leads to a first record, by few keys that the screen shows before they are pressed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from curate.cli.open import _opened
from curate.project.data import load_data
from curate.project.init import make_workspace as make_new
from curate.tui.app import CurateApp
from tests.curate.tui.edited import type_in
from tests.curate.tui.waiting import until

pytestmark = pytest.mark.ci

MOST_KEYS = 6
"""Keys from the first screen to a first record beside its text: a minute for who reads each screen."""
LINES = [{"id": f"r{n}", "instruction": f"Which bird is number {n}?", "output": f"Wren {n}."} for n in range(3)]


class Newcomer:
    """Somebody who presses only what the screen shows; ``num_keys`` counts it, what is typed as text apart."""

    def __init__(self, pilot: Pilot[Any], settled: Callable[..., Awaitable[None]], look: Callable[..., str]) -> None:
        self.app: Any = pilot.app
        self.num_keys = 0
        self._pilot, self._settled, self._look = pilot, settled, look

    def seen(self) -> str:
        """Return the words on the screen, with one blank between them."""
        return " ".join(self._look(self.app).split())

    async def press(self, *keys: str) -> None:
        for key in keys:
            # A key stands before what it does: "n  write the first record", "1-9 step", "ctrl+s save".
            shown = re.search(rf"(?:^|[\s>]){re.escape(key)}(?:-\d)? +\w", self._look(self.app), re.M)
            assert shown, (key, self.seen())
            await self._pilot.press(key)
            await self._settled(self._pilot)
        self.num_keys += len(keys)

    async def write(self) -> None:
        """Write a record in the form and save it."""
        await until(self._pilot, lambda: self.app.current_mode == "edit" and self.app.focused is not None)
        assert self.app.focused.pointer == "/instruction"
        await type_in(self._pilot, "Name a bird.")
        await self._pilot.press("tab", "tab")
        self.num_keys += 2
        await type_in(self._pilot, "Wren.")
        await self.press("ctrl+s")
        assert "saved the new record" in self.seen()

    async def look_at(self, text: str) -> None:
        """Go by the first stage of Home to the records, and find ``text`` there."""
        await until(self._pilot, lambda: self.app.has_project and self.app.project.is_loaded)
        await self._settled(self._pilot)
        await self.press("1")
        assert self.app.current_mode == "browse"
        assert text in self.seen()


@pytest.fixture
def begin(drive, settled, screen_text, tmp_path, monkeypatch) -> Callable[..., CurateApp]:
    """Return a function that opens a path as `curate PATH` does and tells what a newcomer does there."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def tell(path: Path, story: Callable[[Newcomer], Awaitable[None]], size: tuple[int, int] = (80, 24)) -> CurateApp:
        root = path if path.is_dir() else path.parent
        app = CurateApp(root, opener=partial(_opened, path, "ana"), by="ana", poll=None)
        app.to_begin = None if path.is_dir() else path

        async def whole(pilot: Pilot[Any]) -> None:
            await until(pilot, lambda: not app.is_opening)
            await settled(pilot)
            newcomer = Newcomer(pilot, settled, screen_text)
            await story(newcomer)
            assert newcomer.num_keys <= MOST_KEYS

        drive(app, whole, size=size)
        assert not app.crash
        return app

    return tell


def folder(tmp_path: Path) -> Path:
    made = tmp_path / "birds"
    made.mkdir()
    return made


def put(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def saved(app: CurateApp) -> list[str]:
    """Return the completions in the workspace of ``app``, as the next one to open it finds them."""
    return [str(record.completion) for record in load_data(app.root).records()]


def test_in_an_empty_folder(tmp_path, begin) -> None:
    root = folder(tmp_path)

    async def story(newcomer: Newcomer) -> None:
        await newcomer.press("n", "y")
        await newcomer.write()

    app = begin(root, story)
    assert app.root == root, "an empty folder becomes the workspace"
    assert saved(app) == ["Wren."]


def test_in_a_folder_with_one_file(tmp_path, begin) -> None:
    root = folder(tmp_path)
    put(root / "wrens.jsonl", LINES)

    async def story(newcomer: Newcomer) -> None:
        assert "make a workspace from wrens.jsonl" in newcomer.seen()
        await newcomer.press("1", "y")
        await newcomer.look_at("Which bird is number 0?")

    assert saved(begin(root, story)) == [line["output"] for line in LINES]


def test_in_a_folder_with_several_files(tmp_path, begin) -> None:
    root = folder(tmp_path)
    put(root / "finches.jsonl", [{"instruction": "Which finch?", "output": "A linnet."}])
    put(root / "wrens.jsonl", LINES)
    (root / "owls.csv").write_text("question,answer\nWhich owl?,A barn owl\n", encoding="utf-8")

    async def story(newcomer: Newcomer) -> None:
        for name in ("finches.jsonl", "owls.csv", "wrens.jsonl"):
            assert f"make a workspace from {name}" in newcomer.seen()
        await newcomer.press("2", "y")
        await newcomer.look_at("Which owl?")

    app = begin(root, story)
    assert app.root == root / "owls"
    assert saved(app) == ["A barn owl"]


def test_in_a_folder_with_a_file_that_nobody_can_read(tmp_path, begin) -> None:
    root = folder(tmp_path)
    (root / "plan.pdf").write_bytes(b"%PDF-1.7\n\xe2\xe3\x00")

    async def story(newcomer: Newcomer) -> None:
        assert "Cannot be imported: plan.pdf. These can: .jsonl" in newcomer.seen()
        await newcomer.press("n", "y")
        await newcomer.write()

    app = begin(root, story)
    assert saved(app) == ["Wren."]
    assert (root / "plan.pdf").read_bytes() == b"%PDF-1.7\n\xe2\xe3\x00"


def test_in_an_empty_workspace(tmp_path, begin) -> None:
    async def story(newcomer: Newcomer) -> None:
        assert "No records yet" in newcomer.seen()
        await newcomer.press("n")
        await newcomer.write()

    assert saved(begin(make_new(tmp_path / "birds").root, story)) == ["Wren."]


def test_in_a_folder_without_rights(tmp_path, begin, monkeypatch) -> None:
    root, elsewhere = folder(tmp_path), tmp_path / "me"
    elsewhere.mkdir()
    put(root / "wrens.jsonl", LINES)
    access = os.access
    # Whoever runs the tests may be root, whom the rights of a folder do not keep out.
    monkeypatch.setattr("curate.tui.ways_in.os.access", lambda path, mode: path != root and access(path, mode))
    monkeypatch.setattr(Path, "home", lambda: elsewhere)

    async def story(newcomer: Newcomer) -> None:
        assert "Nothing can be written in this folder. A new workspace goes to" in newcomer.seen()
        await newcomer.press("1", "y")
        await newcomer.look_at("Which bird is number 0?")

    app = begin(root, story)
    assert app.root == elsewhere / "wrens"
    assert [path.name for path in root.iterdir()] == ["wrens.jsonl"]


def test_in_a_workspace_whose_settings_are_broken(tmp_path, begin, monkeypatch) -> None:
    root = make_new(tmp_path / "birds", files=[put(tmp_path / "wrens.jsonl", LINES)]).root
    settings = root / "curate.toml"
    good = settings.read_text(encoding="utf-8")
    settings.write_text(good + "\nnonsense = [/b]\n", encoding="utf-8")
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\nsed -i /nonsense/d $1\necho $@ > {tmp_path}/asked\n", encoding="utf-8")
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    monkeypatch.setattr(CurateApp, "suspend", lambda _: nullcontext())

    async def story(newcomer: Newcomer) -> None:
        assert "This workspace cannot be opened" in newcomer.seen()
        await newcomer.press("e")
        await newcomer.look_at("Which bird is number 0?")

    begin(root, story)
    assert "curate.toml" in (tmp_path / "asked").read_text(encoding="utf-8")
    assert settings.read_text(encoding="utf-8").rstrip() == good.rstrip()


def test_in_one_file_without_a_workspace(tmp_path, begin) -> None:
    file = put(folder(tmp_path) / "wrens.jsonl", LINES)

    async def story(newcomer: Newcomer) -> None:
        await newcomer.look_at("Which bird is number 0?")

    begin(file, story)
    assert [path.name for path in file.parent.iterdir()] == ["wrens.jsonl"]
