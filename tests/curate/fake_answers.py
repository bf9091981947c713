"""A `train answer` that needs no model: it answers by the rules in FAKE_ANSWERS, and notes all that it was asked.

Tests put it in the way of the real one, as `tests.curate.fake_trainer` does. FAKE_ANSWERS names a JSON file: by a text
that the last message holds, the answers in turn; "*" stands for any. An answer that is an object is laid over the line.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def install(folder: Path) -> str:
    """Make a folder that shadows the trainer and what it needs, and return what PYTHONPATH must be."""
    for name in ("torch", "transformers", "peft"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
    (folder / "train").mkdir()
    (folder / "train/__init__.py").touch()
    (folder / "train/__main__.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    return str(folder)


def main() -> None:
    path = Path(os.environ["FAKE_ANSWERS"])
    rules = json.loads(path.read_text(encoding="utf-8"))
    asked = path.with_suffix(".asked")
    with asked.open("a", encoding="utf-8") as log:
        log.write(json.dumps(sys.argv[1:]) + "\n")
    say({"model": "fake", "kind": "base", "digest": "0123456789abcdef", "memory": 0, "reads": None})
    counts: dict[str, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        with asked.open("a", encoding="utf-8") as log:
            log.write(line)
        text = str(request["messages"][-1]["content"])
        key = next((rule for rule in rules if rule in text), "*")
        said = rules[key][counts.get(key, 0) % len(rules[key])]
        counts[key] = counts.get(key, 0) + 1
        if said == "die":
            sys.stderr.write("error[E925 too-long]: it gave up\n")
            sys.exit(2)
        answer = said if isinstance(said, dict) else {"text": said, "reasoning": None, "stopped": True}
        say({"id": request["id"], **answer})


def say(value: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
