"""What an answer costs until its first token: CPU seconds of the model's process, never wall time.

    python benchmarks/ask.py [--model tiny-base] [--rounds 5]

The process is the one that `curate ask` talks to, warm: it is loaded, and has answered once before.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median

from curate.project.project import open_project
from curate.sessions.contestants import Talk

PROMPT = "Choose the team for this message. Teams: account, billing, delivery, device, returns. My parcel is late."


def cpu_seconds(pid: int) -> float:
    """Return the user and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="tiny-base")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "data").mkdir()
        (root / "curate.toml").write_text('schema = "instruction"\n', encoding="utf-8")
        talk = Talk(open_project(root, "bench").data, options.model)
        pid, lines, first, whole = talk._child.pid, iter(talk), [], []
        next(lines)
        print(f"| what | CPU seconds, median of {options.rounds} |\n|---|---:|")
        print(f"| start of the process and loading | {cpu_seconds(pid):.2f} |")
        for number in range(options.rounds + 1):
            request = {"id": str(number), "messages": [{"role": "user", "content": PROMPT}], "max_new_tokens": 64}
            before = cpu_seconds(pid)
            talk.ask({**request, "temperature": 1.0, "seed": number})
            next(lines)
            first.append(cpu_seconds(pid) - before)
            while "text" not in next(lines):
                pass
            whole.append(cpu_seconds(pid) - before)
        talk.close()
        print(f"| first token, cold | {first[0]:.2f} |")
        print(f"| first token, warm | {median(first[1:]):.2f} |")
        print(f"| whole answer, warm | {median(whole[1:]):.2f} |")


if __name__ == "__main__":
    main()
