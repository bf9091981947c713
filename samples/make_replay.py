# SPDX-License-Identifier: Apache-2.0
"""Write `replay.jsonl`: plain text that the tiny base knows, trained along in the tour against forgetting.

    python samples/make_replay.py [FOLDER]

Each text is of the pre-training generator, from a seed that nothing else here uses. No eight words in a row of it stand
in `general.jsonl`, on which forgetting is measured: what is trained would else be asked. Short sentences that the
generator has always written may stand in both: a model that is shown none of them unlearns them.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from random import Random

from make_general import make_texts as general_texts
from tiny_base_skills import plain

SEED = 31337
TEXTS = 3000
IN_A_ROW = 8


def passages(text: str) -> set[str]:
    """All that stands in a text of eight words in a row, or the whole where it is shorter; without regard to case."""
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[start : start + IN_A_ROW]) for start in range(max(1, len(words) - IN_A_ROW + 1))}


def make_texts() -> list[dict[str, str]]:
    """The first `TEXTS` generated texts that share no passage with the exam, with their ids."""
    exam = {passage for one in general_texts() for passage in passages(one["text"])}
    r = Random(SEED)
    texts: dict[str, None] = {}
    while len(texts) < TEXTS:
        text = plain(r).system or ""
        if exam.isdisjoint(passages(text)):
            texts[text] = None
    return [{"id": f"replay-{number:03d}", "text": text} for number, text in enumerate(texts, 1)]


def main() -> None:
    """Write the file beside this script, or into the folder given."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    (folder / "replay.jsonl").write_bytes("".join(json.dumps(value) + "\n" for value in make_texts()).encode())


if __name__ == "__main__":
    main()
