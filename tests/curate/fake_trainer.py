"""A trainer that trains nothing: it keeps the files and signals of `train run` and `train plan`, and needs no torch.

It answers as `train answer --stream` does, with the name of the model and what is asked; some names do something else.

Tests put it in the way of the real one: a folder of PYTHONPATH that has it as the package `train`.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

STEPS = int(os.environ.get("FAKE_STEPS", "1000"))
SECONDS = float(os.environ.get("FAKE_SECONDS", "0.02"))


def install(folder: Path) -> str:
    """Make a folder that shadows the trainer and what it needs, and return what PYTHONPATH must be."""
    for name in ("torch", "transformers", "peft"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
    (folder / "train").mkdir()
    (folder / "train/__init__.py").touch()
    (folder / "train/__main__.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    return str(folder)


PLAN = {
    "records": 3, "tokens": 120, "supervised": 40, "steps": STEPS, "longest": 50, "step_size": "2 records a step",
    "learning_rate": 1e-3, "warmup_steps": 1, "parameters": 10, "trained": 5, "state_bytes": 80, "device": "cpu",
    "dtype": "float32", "threads": 1, "seconds": None, "peak_bytes": None,
    "risks": [{"action": "auto-lr", "text": "learning_rate 0.001 is 3.0 times the automatic one",
               "lines": ['learning_rate = "auto"']}],
}  # fmt: skip


def main(words: list[str]) -> int:
    if words[0] == "answer":
        return answer(words[words.index("--with") + 1])
    if words[0] == "plan":
        if "learning_rate=13" in words:
            return talk("error[E920 bad-recipe]: learning_rate must be less than or equal to 10")
        price = {"cost_per_hour": 2.5, "cost": 5.0} if "--cost-per-hour" in words else {}
        sys.stdout.write(json.dumps(PLAN | price))
        sys.stderr.write("warning: 12 of 100 train records are skipped: longer than max_length 32\n")
        return 0
    if os.environ.get("FAKE_FAIL"):
        return talk("error[E920 no-base]: there is no such model")
    if "--dry-run" in words:
        # A real one reads the dataset before it says its plan.
        return 0 if (Path(words[1]) / "manifest.json").is_file() else talk("error[E912 bad-dataset]: no manifest")
    return run(Path(words[1]), Path(words[words.index("--out") + 1]), is_resumed="--resume" in words)


def answer(name: str) -> int:
    """Answer requests as "broken" (which does not start), "slow", "refuses", "cut-off", "silent", "thinks", "hostile".

    Any other model says what it heard. What is asked goes to the file FAKE_ASKED.
    """
    if "broken" in name:
        return talk("error[E926 no-such-base]: no folder 'broken' here\n  help: Name another.")
    cancelled, requests = set(), queue.Queue()

    def listen() -> None:
        for line in iter(sys.stdin.readline, ""):
            value = json.loads(line)
            cancelled.add(value["cancel"]) if "cancel" in value else requests.put(value)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    kind = "endpoint" if name.startswith("http") else "base"
    tell_line(model=name, kind=kind, digest="f" * 8, memory=8_300_000, reads=512, can_compare=True)
    while True:
        request = requests.get()
        if path := os.environ.get("FAKE_ASKED"):
            with Path(path).open("a") as file:
                file.write(json.dumps({"model": name, **request}) + "\n")
        if "refuses" in name:
            tell_line(id=request["id"], error={"code": "E925 too-long", "reason": "its 900 tokens fill all 512"})
            continue
        if "cut-off" in name:
            tell_line(id=request["id"], delta="half an ans")
            tell_line(id=request["id"], error={"code": "E963 no-answer", "reason": "the stream ended"})
            continue
        text, stopped = f"{Path(name).name} heard: {request['messages'][-1]['content']}", True
        if request["temperature"]:
            text += f" (seed {request['seed']})"
        text = HOSTILE if "hostile" in name else "on " * 500 if "slow" in name else text
        reasoning = "well" if "thinks" in name else None
        text = "" if "silent" in name or reasoning else text
        written = ""
        for piece in text.split(" "):
            if request["id"] in cancelled:
                stopped = False
                break
            written += f"{' ' if written else ''}{piece}"
            tell_line(id=request["id"], delta=f"{' ' if written != piece else ''}{piece}")
            time.sleep(0.05 if "slow" in name else 0)
        tell_line(
            id=request["id"], text=written, reasoning=reasoning, stopped=stopped, logprobs=[], prompt_tokens=9,
            new_tokens=len(written.split()), seconds=0.5, cost=None, is_cached=False,
        )  # fmt: skip


HOSTILE = "\x1b[31mred\x1b[0m \x1b]0;title\x07 [/b] \u202eback \udc80"


def tell_line(**value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def talk(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
    return 2


def run(dataset: Path, folder: Path, *, is_resumed: bool) -> int:
    if not is_resumed and folder.exists() and {path.name for path in folder.glob("[!.]*")} - {"process.json", "log"}:
        return talk(f"error[E950 run-exists]: {folder} is not empty")
    asked = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    folder.mkdir(parents=True, exist_ok=True)
    first = int((folder / "state").read_text()) if is_resumed and (folder / "state").exists() else 0
    about = {
        "version": 1, "id": folder.name, "status": "running", "created": now(), "seed": 1,
        "recipe": {"num_train_epochs": 2},
        "dataset": {"path": str(dataset.resolve()), "name": dataset.name, "sha256": ""},
        "facts": {"device": "cpu"},
    }  # fmt: skip
    write(folder / "run.json", json.dumps(about))
    talk(f"run {folder.name}: measuring the base")
    with (folder / "metrics.jsonl").open("a") as metrics:

        def tell(event: str, **fields: object) -> None:
            metrics.write(json.dumps({"event": event, **fields, "time": now()}) + "\n")
            metrics.flush()

        tell("start", step=first, of=STEPS, examples=3, lr=1e-3)
        step = first
        while step < STEPS and not asked:
            step += 1
            tell("step", step=step, of=STEPS, epoch=0, loss=1 + 1 / step, lr=1e-3, grad_norm=0.5, tokens=40 * step,
                 supervised=9, tokens_per_second=1234.5, eta_seconds=(STEPS - step) * SECONDS)  # fmt: skip
            if step % 10 == 0:
                tell("eval", step=step, score=0.5, loss=0.9, by_category={"billing": 0.5}, best=True)
            time.sleep(SECONDS)
        (folder / "state").write_text(str(step))
        (folder / f"checkpoint-{step}").mkdir(exist_ok=True)
        tell("checkpoint", step=step, path=f"checkpoint-{step}")
        tell("end", step=step, best_step=step, tokens=40 * step, seconds=1.0, stopped=143 if asked else None)
    write(folder / "run.json", json.dumps(about | {"status": "stopped" if asked else "finished", "step": step}))
    return 143 if asked else 0


def write(path: Path, text: str) -> None:
    path.with_suffix(".tmp").write_text(text)
    path.with_suffix(".tmp").replace(path)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
