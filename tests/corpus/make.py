"""Make `workspace/`: a workspace with every kind of decision in it, by the commands that a user types.

It was made with the program as it was before the second house, and is committed so that later programs can be held to
it: they have to read it, and to mean the same by it. `python tests/corpus/make.py FOLDER` makes another one with the
program of today; event numbers and times differ then, and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
QUESTIONS = '[{ name = "quality", ask = "How good is the answer?", values = ["good", "ok", "poor"] }]'
RECIPE = """base = "tiny-base"
method = "lora"
max_steps = 4
batch_size = 4
threads = 1
on_unrenderable = "skip"

[lora]
rank = 2

[eval]
max_new_tokens = 8
"""


def main(root: Path) -> None:
    """Make the workspace in the folder ``root``, which must not be there."""
    first, second = root.parent / "one.jsonl", root.parent / "two.jsonl"
    lines = _lines()
    first.write_bytes(b"".join(lines[:40]))
    second.write_bytes(b"".join(lines[40:]))
    _run("init", root, "--from", first, "--from", second)
    _set(root, "min_category = 30", "min_category = 3")
    _set(root, "questions = []", f"questions = {QUESTIONS}")
    _set(root, "annotators = []", 'annotators = ["ana", "ben"]')
    _set(root, "overlap = 0.0", "overlap = 1.0")
    _set(root, 'baseline = ""', 'baseline = "baseline.jsonl"')
    _set(root, 'recipe = ""', 'recipe = "recipe.toml"')
    (root / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    # Before the fold: one of each kind of decision, and one taken back, and one taken back and done again.
    _run("label", root, "--plain", "--by", "ana", typed="1\n2\n1\n3\nq\n")
    _edit(root, "sd-0001", "output", "ana")
    _run("drop", "sd-0004", "sd-0005", root, "--reason", "off topic", "--by", "ana")
    _run("restore", "sd-0005", root, "--by", "ana")
    _run("drop", "sd-0006", root, "--reason", "a mistake", "--by", "ana")
    _run("undo", root, "--by", "ana")
    _run("drop", "sd-0007", root, "--reason", "twice", "--by", "ana")
    _run("undo", root, "--by", "ana")
    _run("undo", root, "--by", "ana", "--redo")
    _add(root, "new-0001", "ana")
    _run("dedupe", root, "--apply", "keep-first")
    _run("fold", root)
    # After it: a division that stays, two people who did not see one another, and what they settled.
    _run("split", root, "--ratios", "60/20/20", "--seed", "5", "--apply", "--save")
    _run("split", root, "--freeze")
    away = root.parent / "away"
    shutil.copytree(root, away)
    _run("label", away, "--plain", "--by", "ben", typed="2\n2\n1\nq\n")
    for name in ("sd-0010", "sd-0011"):
        _edit(root, name, "output", "ana")
        _edit(away, name, "output", "ben")
    _run("restore", "sd-0004", away, "--by", "ben")
    shutil.copytree(away / "journal" / "ben", root / "journal" / "ben")
    shutil.rmtree(away)
    _run("review", root, "--plain", "--by", "ana", typed="1\n" * 6 + "q\n", codes=(0, 1))
    _run("drop", "sd-0012", root, "--reason", "D301: repeats nobody (1.00)", "--by", "ben")
    _add(root, "new-0002", "ben")
    _draft(root, "sd-0014", "ana")
    _run("validate", root, "--update-baseline", codes=(0, 1))
    shutil.copytree(SAMPLES / "tiny-base", root / "tiny-base")
    _settle(root)
    _run("export", root)
    _run("train", root)
    shutil.rmtree(root / "tiny-base")
    for weights in (*root.glob("runs/*/checkpoints"), *root.glob("runs/*/cache"), root / ".curate" / "cache"):
        shutil.rmtree(weights, ignore_errors=True)
    # What an export and a run refuse comes last: a field that two people decided apart.
    away = root.parent / "away"
    shutil.copytree(root, away)
    _edit(root, "sd-0020", "output", "ana")
    _edit(away, "sd-0020", "output", "ben")
    for segment in sorted((away / "journal" / "ben").iterdir()):
        target = root / "journal" / "ben" / segment.name
        if not target.exists():
            shutil.copy(segment, target)
    shutil.rmtree(away)


def _lines() -> list[bytes]:
    """Return 60 lines of the sample, some of them changed so that something is found in them."""
    lines = (SAMPLES / "support_desk.jsonl").read_bytes().splitlines(keepends=True)[:56]
    parsed = [json.loads(line) for line in lines]
    parsed[20]["input"] = f"{parsed[20]['input']} Write to mara@example.org or call +49 30 901820."
    parsed[21]["output"] = ""
    parsed[22]["output"] = "As an AI language model, I cannot help with that."
    parsed[23]["x-ignore"] = ["X701"]
    parsed[23]["input"] = f"{parsed[23]['input']} My mail is joe@example.org."
    repeat, near, other = dict(parsed[30]), dict(parsed[8]), dict(parsed[32])
    repeat["id"], near["id"], other["id"] = "repeat-1", "near-1", "other-1"
    near["input"] = near["input"].replace("Hello", "Hi") + " Thanks."
    other["output"] = f"{other['output']} No."
    unnamed = {name: value for name, value in parsed[33].items() if name != "id"}
    return [json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in (*parsed, repeat, near, other, unnamed)]


def _settle(root: Path) -> None:
    """Drop what an export refuses."""
    report = _run("validate", root, "--format", "jsonl", codes=(0, 1))
    names = {finding["record"] for finding in map(json.loads, report.splitlines()) if finding["severity"] == "error"}
    if names - {None, ""}:
        _run("drop", *sorted(names - {None, ""}), root, "--reason", "not valid", "--by", "ana")


def _edit(root: Path, name: str, field: str, by: str) -> None:
    script = f"d[{field!r}] = d[{field!r}] + ' ({by})'"
    _run("edit", name, root, "--json", "--by", by, editor=script)


def _add(root: Path, name: str, by: str) -> None:
    script = (
        f"d.clear(); d.update(id={name!r}, instruction='Say hello to {by}.', output='Hello, {by}.', category='answer')"
    )
    _run("edit", "--new", root, "--json", "--by", by, editor=script)


def _draft(root: Path, name: str, by: str) -> None:
    _run("edit", name, root, "--json", "--by", by, editor="d['output'] = 7", typed="n\nn\nn\n", codes=(0, 1, 2))


def _set(root: Path, old: str, new: str) -> None:
    path = root / "curate.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text, f"curate.toml has no {old}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def _run(*arguments: object, typed: str = "", editor: str = "", codes: tuple[int, ...] = (0,)) -> str:
    """Call `curate` and return what it printed; ``editor`` is Python that changes the record ``d``."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CURATE_ANNOTATOR": "ana"}
    if editor:
        helper = Path(os.environ.get("TMPDIR", "/tmp")) / f"editor-{os.getpid()}.py"
        helper.write_text(
            "import json, sys\np = sys.argv[-1]\n"
            f"d = json.load(open(p, encoding='utf-8'))\n{editor}\n"
            "json.dump(d, open(p, 'w', encoding='utf-8'), ensure_ascii=False, indent=2)\n"
        )
        environment["VISUAL"] = environment["EDITOR"] = f"{sys.executable} {helper}"
    command = [sys.executable, "-m", "curate", *map(str, arguments)]
    done = subprocess.run(command, env=environment, input=typed, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    print("$ curate", *arguments, "->", done.returncode)
    return done.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
