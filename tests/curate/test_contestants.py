"""Models that are asked from a workspace, by the trainer's own command."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from curate.base.record import CurateError
from curate.project.project import open_project
from curate.sessions.contestants import Talk, contestant_of, is_endpoint
from train.contestants import parse_spec

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("torch")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text('{"id": "a", "instruction": "Name a colour.", "output": "red"}\n')
    (tmp_path / "curate.toml").write_text('schema = "instruction"\n[contestants]\nbig = "https://host/v1#m"\n')
    return tmp_path


def question(name: str, **more: object) -> dict[str, object]:
    return {"id": name, "messages": [{"role": "user", "content": "Name a colour."}], **more}


def test_names_mean_the_recipes_base_an_alias_a_run_or_a_path(root: Path) -> None:
    data = open_project(root, "ana").data
    assert contestant_of(data, "base") == "tiny-base"
    assert contestant_of(data, "big") == "https://host/v1#m"
    (root / "runs" / "b").mkdir(parents=True)
    assert contestant_of(data, "b") == str(root / "runs" / "b")
    assert contestant_of(data, "runs/b") == str(root / "runs" / "b")
    assert contestant_of(data, "org/model") == "org/model"


@pytest.mark.parametrize("name", ["end.toml", "end.TOML", "end.toml/", "end.toml/.", "alias"])
def test_what_leads_to_a_url_is_an_endpoint_however_it_is_spelled(root: Path, name: str) -> None:
    """As the trainer reads a name; and a file named in curate.toml is found in the workspace."""
    for spelling in ("end.toml", "end.TOML"):
        (root / spelling).write_text('url = "http://127.0.0.1:9/v1"\nmodel = "m"\n')
    settings = (root / "curate.toml").read_text()
    (root / "curate.toml").write_text(settings.replace("[contestants]", '[contestants]\nalias = "end.TOML"'))
    chosen = contestant_of(open_project(root, "ana").data, name)
    assert is_endpoint(chosen)
    assert Path(chosen).is_relative_to(root)
    assert parse_spec(chosen).kind == "endpoint"


def test_a_base_named_by_a_recipe_is_found_beside_it(root: Path) -> None:
    (root / "recipes" / "small").mkdir(parents=True)
    (root / "recipes" / "a.toml").write_text('base = "small"\n')
    (root / "curate.toml").write_text('schema = "instruction"\nrecipe = "recipes/a.toml"\n')
    assert contestant_of(open_project(root, "ana").data, "base") == str(root / "recipes" / "small")


@pytest.mark.ci
def test_a_talk_stays_warm_and_can_be_cancelled(root: Path) -> None:
    talk = Talk(open_project(root, "ana").data, "base", ["--max-new-tokens", "4000"])
    try:
        lines = iter(talk)
        assert next(lines)["kind"] == "base"
        talk.ask(question("a"))
        heard = [next(lines)]
        while "text" not in heard[-1]:
            heard.append(next(lines))
        assert "".join(str(line["delta"]) for line in heard[:-1]) == heard[-1]["text"]
        talk.ask(question("b", temperature=2, seed=1))
        next(lines)
        talk.cancel("b")
        end = next(line for line in lines if "text" in line)
        assert end["id"] == "b"
        assert end["stopped"] is False
    finally:
        talk.close()


@pytest.mark.ci
def test_each_request_gets_its_line_and_a_model_that_is_not_there_says_so(root: Path) -> None:
    data = open_project(root, "ana").data
    with closing(Talk(data, "base")) as talk:
        got = {line["id"]: line for line in talk.answers([question("a"), question("b"), {"id": "c"}])}
    assert got.keys() == {"a", "b", "c"}
    assert "error" in got["c"]
    with closing(Talk(data, "no-such-model")) as talk, pytest.raises(CurateError, match="no-such-model") as caught:
        list(talk.answers([question("a")]))
    assert caught.value.code == "E926 no-such-base"
    assert "error[" not in caught.value.message


@pytest.mark.ci
def test_the_process_ends_with_the_one_who_asked(root: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from curate.project.project import open_project\n"
        "from curate.sessions.contestants import Talk\n"
        f"talk = Talk(open_project(Path({str(root)!r}), 'ana').data, 'base', ['--max-new-tokens', '1000000'])\n"
        "next(iter(talk)); print(talk._child.pid, flush=True)\n"
        "talk.ask({'id': 'a', 'messages': [{'role': 'user', 'content': 'go on'}], 'temperature': 2}); time.sleep(600)\n"
    )
    asking = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    with asking:
        assert asking.stdout is not None
        pid = int(asking.stdout.readline())
        asking.send_signal(signal.SIGKILL)
    ends = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < ends:
        time.sleep(0.05)
    # A child that nobody waits for may stay as a zombie, which does nothing any more.
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
