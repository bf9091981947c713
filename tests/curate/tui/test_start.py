"""`curate [DIR]`: what opens the terminal UI and what does not, how soon it is drawn, and that it is quiet."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest

from curate.cli import cli
from curate.cli.open import THEMES
from curate.tui.themes import PALETTES


def _chosen(monkeypatch, arguments: list[str]) -> list[str]:
    """Return the verb that ``arguments`` come to, with what is left for it; nothing is run."""
    seen: list[str] = []

    def resolve(self, ctx, args):
        seen.extend(args)
        raise click.Abort

    monkeypatch.setattr(type(cli), "resolve_command", resolve)
    with pytest.raises(click.Abort):
        cli.main(arguments, standalone_mode=False)
    return seen


def test_a_folder_nothing_and_the_options_of_the_ui_open_it(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-data").mkdir()
    (tmp_path / "train").mkdir()
    assert _chosen(monkeypatch, ["my-data"]) == ["open", "my-data"]
    assert _chosen(monkeypatch, ["."]) == ["open", "."]
    assert _chosen(monkeypatch, []) == ["open"]
    assert _chosen(monkeypatch, ["--by", "ana", "my-data"]) == ["open", "--by", "ana", "my-data"]
    assert _chosen(monkeypatch, ["--by=ana"]) == ["open", "--by=ana"]
    assert _chosen(monkeypatch, ["my-data", "--ascii"]) == ["open", "my-data", "--ascii"]
    assert _chosen(monkeypatch, ["train"]) == ["train"], "a verb is a verb, whatever folder there is"
    assert _chosen(monkeypatch, ["./train"]) == ["open", "./train"]
    assert _chosen(monkeypatch, ["my-dat"]) == ["my-dat"], "what is neither is refused as an unknown verb"


def test_the_command_line_knows_the_themes() -> None:
    assert set(THEMES) == set(PALETTES), "written twice, so that --help need not load textual"


def _command(root: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "curate", str(root), "--by", "ana", *options]


@pytest.mark.ci
def test_no_mouse_leaves_the_mouse_alone(pty_session, make_workspace) -> None:
    session = pty_session(_command(make_workspace().root, "--no-mouse"))
    session.wait_for(b"60 records")
    session.send(b"q")
    assert session.end() == 0
    assert b"?1000h" not in session.output
    assert b"?1003h" not in session.output


@pytest.mark.ci
def test_no_colour_sends_none(pty_session, make_workspace) -> None:
    import re

    session = pty_session(_command(make_workspace().root), NO_COLOR="1")
    session.wait_for(b"60 records")
    session.quiet()
    session.send(b"q")
    assert session.end() == 0
    codes = {part for found in re.findall(rb"\x1b\[([0-9;]*)m", session.output) for part in found.split(b";")}
    assert codes <= {b"", b"0", b"1", b"2", b"3", b"4", b"7", b"9"}, codes
    assert b"7" in codes, "the cursor is told by reverse"


@pytest.mark.ci
def test_the_locale_c_draws_ascii_alone(pty_session, make_workspace) -> None:
    session = pty_session(_command(make_workspace().root), LANG="C")
    session.wait_for(b"60 records")
    session.send(b"?")
    session.quiet()
    session.send(b"\x1b")
    session.quiet()
    session.send(b"q")
    assert session.end() == 0
    assert session.output.isascii()


@pytest.mark.ci
def test_nothing_is_drawn_while_nothing_happens(pty_session, make_workspace) -> None:
    session = pty_session(_command(make_workspace().root))
    session.wait_for(b"60 records")
    assert session.quiet(3, timeout=60), "a clock that looks every second must not draw every second"


@pytest.mark.ci
def test_a_bad_setting_is_told_on_the_screen(pty_session, tmp_path) -> None:
    (tmp_path / "curate.toml").write_text("nonsense = 1\n", encoding="utf-8")
    session = pty_session(_command(tmp_path))
    session.wait_for(b"E902")
    session.send(b"q")
    assert session.end() == 0
