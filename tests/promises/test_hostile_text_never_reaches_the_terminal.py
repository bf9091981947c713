"""What a terminal, a build server, a spreadsheet or a log could act on, or should not keep, is shown so that it cannot.

Control characters, escape sequences and bidirectional marks are made visible before a terminal sees them. A cell that
a spreadsheet could run is marked. Values are masked in findings unless `--show-values`; baselines hold digests.
"""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.promises import outside
from tests.promises.outside import Row

CLEAR = "\x1b[2J"
ON_ONE_LINE = f"\x1b]52;c;ZXZpbA==\x07{CLEAR}\x9b31m\x85\u202e\u2066\u200f\U000e0041\x08\x7f\r"
HOSTILE = f"{ON_ONE_LINE}\u2028\n::stop-commands::x\n##[error]x\n"
"""It fills the clipboard, clears the screen, turns the text about, goes back in its line, and gives orders to CI."""
ALIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\U000e0000-\U000e007f]"
)
MADE_VISIBLE = re.compile(r"U\+001B|\\u001b|\\x1b|\u241b", re.IGNORECASE)
FORMATS = ["concise", "github", "gitlab", "json", "jsonl", "junit", "markdown", "sarif", "text"]


def printed_by(done: CompletedProcess[str]) -> str:
    """Return what a command printed, which no terminal and no build server may act on."""
    printed = done.stdout + done.stderr
    assert not ALIVE.search(printed), ascii(printed[:2000])
    assert not re.search(r"^\s*(::stop-commands|##)", printed, re.MULTILINE)
    return printed


def hostile_rows() -> list[Row]:
    rows: list[Row] = [
        {
            "id": f"r{n}{HOSTILE}",
            "instruction": f"Tell {HOSTILE} thing{n} from part{n * 7} today.",
            "output": f"Answer{n} {HOSTILE} says that stuff{n * 3} differs{n}.",
            "category": f"kind{n % 2}{HOSTILE}",
        }
        for n in range(8)
    ]
    rows.append(rows[0] | {"id": f"copy{HOSTILE}"})
    rows.append(rows[1] | {"id": f"other{HOSTILE}", "output": f"Another answer {HOSTILE} to that."})
    return [*rows, {"id": f"bad{HOSTILE}", "instruction": 5, "output": HOSTILE}]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace whose ids, texts, categories and file name are hostile."""
    root = outside.make_workspace(tmp_path / "work", hostile_rows())
    (root / "data/records.jsonl").rename(root / "data" / f"rows{ON_ONE_LINE}.jsonl")
    return root


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_of_findings_holds_a_character_that_a_terminal_acts_on(name: str, workspace: Path) -> None:
    done = outside.curate("validate", workspace, "--format", name, "--show-values")
    assert done.returncode == 1
    assert MADE_VISIBLE.search(printed_by(done))
    if name in ("json", "gitlab", "sarif"):
        assert json.loads(done.stdout)


VERBS: list[list[str]] = [
    ["list", "DIR"],
    ["list", "DIR", "--columns", "id,category,place,prompt"],
    ["list", "DIR", "--count-by", "category"],
    ["stats", "DIR", "--plots"],
    ["dedupe", "DIR"],
    ["split", "DIR"],
    ["label", "DIR", "--plain", "--all", "--by", "ana"],
    ["validate", "DIR", "--show-values"],
    ["drop", f"r2{HOSTILE}", "DIR", "--reason", HOSTILE, "--by", "ana"],
    ["log", "DIR", f"r2{HOSTILE}"],
    ["export", "DIR"],
    ["diff", "DIR", "FILE"],
    ["diff", "DIR", "FILE", "--format", "markdown"],
    ["init", "NEW", "FILE"],
    ["import", "FILE", "--into", "DIR", "--dry-run"],
    ["redact", "FILE", "--diff", "--show-values"],
]


def test_no_verb_that_shows_records_lets_their_text_drive_the_terminal(workspace: Path, tmp_path: Path) -> None:
    changed = [row | {"output": f"Changed {HOSTILE} by n@corvid.dev.", "category": HOSTILE} for row in hostile_rows()]
    file = outside.write_rows(tmp_path / f"more{ON_ONE_LINE}.jsonl", changed)
    places = {"DIR": str(workspace), "FILE": str(file), "NEW": str(tmp_path / "new")}
    for words in VERBS:
        done = outside.curate(*[places.get(word, word) for word in words], input="1\ns\n?\nq\n")
        assert done.returncode in (0, 1), (words, done.stderr)
        assert MADE_VISIBLE.search(printed_by(done)), words


TYPED: list[list[str]] = [
    [CLEAR],
    ["validate", f"no{HOSTILE}.jsonl"],
    ["validate", f"--{HOSTILE}"],
    ["validate", "work", "--format", HOSTILE],
    ["rule", HOSTILE],
    ["list", "work", "--columns", HOSTILE],
    ["drop", f"nobody{HOSTILE}", "work", "--reason", "x"],
    ["label", "work", "--where", "id:a", "--set", HOSTILE],
    ["config", "validate", "hostile"],
]


@pytest.mark.parametrize("words", TYPED, ids=range(len(TYPED)))
def test_an_error_quotes_what_was_typed_or_read_without_its_control_characters(
    words: list[str], tmp_path: Path
) -> None:
    outside.make_workspace(tmp_path / "work", outside.rows_on("cards", 3))
    outside.make_workspace(tmp_path / "hostile", [], '[split]\nseed = "\\u001b[2J\\u202e"\n')
    done = outside.curate(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert MADE_VISIBLE.search(printed_by(done)), done


def test_a_trainer_names_hostile_records_without_their_control_characters(tmp_path: Path) -> None:
    rows = [row | {"id": f"{row['id']}{HOSTILE}", "category": f"cards{HOSTILE}"} for row in outside.rows_on("cards", 8)]
    workspace = outside.make_workspace(tmp_path / "work", rows)
    outside.succeed(outside.curate("export", workspace))
    words = [workspace / "dataset/v1", "--base", outside.TINY_BASE]
    mixed = ["--set", "mixing.temperature=2"]
    for verb in (["preview", *words, "-n", "3"], ["plan", *words, "--no-measure", *mixed]):
        done = outside.train(*verb)
        printed = printed_by(done)
        assert done.returncode == 0, printed
        assert MADE_VISIBLE.search(printed), printed
        assert "cards" in printed
    # What was typed is quoted in errors, too.
    done = outside.train("preview", *words, "--id", HOSTILE)
    assert done.returncode == 2
    assert MADE_VISIBLE.search(printed_by(done))


def test_a_cell_that_a_spreadsheet_could_run_is_marked_and_comes_back_as_it_was(tmp_path: Path) -> None:
    starts = ["=cmd|' /C calc'!A0", "+1+cmd", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1+1", ' "=1+1', "＝1+1", "'=1"]
    rows = outside.rows_on("cards", len(starts) + 3)
    for row, start in zip(rows, starts, strict=False):
        row["output"] = f"{start} and then {row['id']} says something of its own."
    workspace = outside.make_workspace(tmp_path / "work", rows)

    outside.succeed(outside.curate("export", workspace, "--to", "csv", "--out", tmp_path / "cells"))

    cells: dict[str, str] = {}
    for path in (tmp_path / "cells").glob("*.csv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            cells |= {row["id"]: row["output"] for row in csv.DictReader(file)}
    assert len(cells) == len(rows)
    assert {name: cell.removeprefix("'") for name, cell in cells.items()} == {row["id"]: row["output"] for row in rows}
    assert sorted(name for name, cell in cells.items() if cell[0] == "'") == [row["id"] for row in rows[: len(starts)]]


KEY = "sk-proj-aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5bC7dE9fG1hJ3"
CLOUD = "AKIAZ7Q3X5M2V9K4T8WB"
MAIL = "anna.kestrel@corvid-mail.dev"
SECRETS = [KEY, CLOUD, MAIL]
SECRET_ROWS: list[Row] = [
    {"id": "a", "instruction": f"Who is {MAIL}?", "output": f"The key is {KEY} and so on.", "category": "desk"},
    {"id": "b", "instruction": "What is the key?", "output": f"It is {CLOUD}, ask {MAIL}.", "category": "desk"},
    {"id": "c", "instruction": "What is the key?", "output": f"It is not {CLOUD}, ask {MAIL}", "category": "desk"},
    {"id": "d", "instruction": 5, "output": MAIL, "category": "desk"},
    {"id": "e", "instruction": MAIL, "category": [KEY]},
    {"id": "f", "instruction": "Say.", "output": f"  {MAIL} \u200b {KEY} <|im_end|> ", "split": KEY},
    {"id": "g", "instruction": "Write.", "output": f"Of all that was asked for, here is the token of it: {KEY},"},
    {"id": "h", "instruction": "Repeat.", "output": f"{MAIL} " * 12 + "."},
    {"id": "i", "instruction": {KEY: 1}, "output": "Yes.", "category": "desk", KEY: 1, MAIL: {"of": 2}},
]
BROKEN = [
    f'{{"id":"x","instruction":"{MAIL}","output":"{KEY}',
    f'{{"id":"y","instruction":"{MAIL}","instruction":"{KEY}","output":1}}',
    f'{{"id":"z","instruction":"a","output":{CLOUD}}}',
    f"{MAIL} {KEY} {CLOUD}",
    f'{{"{KEY}":1,"{KEY}":2}}',
    f'{{"id":"w","{MAIL}":1,"{MAIL}":NaN}}',
    f'{{"output":"{KEY}\x01"}}',
]


@pytest.fixture
def secret_workspace(tmp_path: Path) -> Path:
    """A workspace with an address and two keys in texts, in values of wrong types, and in lines that are broken."""
    root = outside.make_workspace(tmp_path / "work", SECRET_ROWS)
    with (root / "data/records.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in BROKEN)
    return root


def told(text: str) -> list[str]:
    return [secret for secret in [*SECRETS, "corvid-mail", KEY[8:30], CLOUD[4:]] if secret in text]


@pytest.mark.parametrize("name", FORMATS)
def test_findings_tell_no_value_unless_they_are_asked_to(name: str, secret_workspace: Path) -> None:
    done = outside.curate("validate", secret_workspace, "--format", name)
    assert done.returncode == 1
    assert all(code in done.stdout for code in ("X701", "X702", "S102", "S111"))
    assert told(done.stdout + done.stderr) == []


def test_values_are_shown_to_whoever_asks_for_them(secret_workspace: Path) -> None:
    shown = outside.curate("validate", secret_workspace, "--show-values", "--select", "X7,S1").stdout
    assert {KEY, MAIL} <= set(told(shown))


def test_a_baseline_holds_digests_and_no_value_also_where_values_are_shown(
    secret_workspace: Path, tmp_path: Path
) -> None:
    known = tmp_path / "known.json"
    call: list[Any] = ["validate", secret_workspace, "--baseline", known]
    outside.curate(*call, "--update-baseline", "--show-values")
    assert len(json.loads(known.read_bytes())["entries"]) > 10
    assert told(known.read_text(encoding="utf-8")) == []
    # It knows them by their digests all the same.
    assert outside.curate(*call).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ["export", "DIR"],
        ["doctor", "DIR"],
        ["redact", "DIR", "--diff"],
        ["redact", "DIR", "--dry-run"],
        ["validate", "DIR", "--fix", "--unsafe-fixes", "--diff"],
        ["quality", "DIR", "--sort", "repetition"],
        ["dedupe", "DIR", "--explain"],
        ["init", "NEW", "DIR/data/records.jsonl"],
        ["import", "DIR/data/records.jsonl", "--into", "DIR", "--category", "desk"],
    ],
    ids=" ".join,
)
def test_verbs_that_report_on_records_mask_what_is_personal_or_secret(
    words: list[str], secret_workspace: Path, tmp_path: Path
) -> None:
    places = {"DIR": str(secret_workspace), "NEW": str(tmp_path / "new")}
    call = [re.sub("DIR|NEW", lambda found: places[found[0]], word) for word in words]
    done = outside.curate(*call, input="?\ns\ns\nq\n", env=os.environ | {"COLUMNS": "300"})
    assert done.stdout + done.stderr
    assert told(done.stdout + done.stderr) == [], done.stdout + done.stderr
