"""The records nearest to a text that is being written: found by an index, compared exactly."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from curate.base.events import Add, Drop, Edit
from curate.base.record import Record, Source
from curate.schema.settings import DedupeSettings
from curate.sessions import nearest
from curate.sessions.nearest import Nearest
from curate.similarity.dedupe import method_of
from curate.similarity.dedupe.corpus import gather
from curate.similarity.dedupe.nearest import ShingleIndex
from tests.curate.deciding import decide


def text(chance: random.Random, num_words: int) -> str:
    return " ".join(f"w{int(chance.paretovariate(1)) % 5000}" for _ in range(num_words))


def lines(count: int, num_words: int = 12) -> list[dict[str, Any]]:
    chance = random.Random(7)
    return [
        {"id": f"r{n:03}", "instruction": text(chance, num_words), "output": text(chance, num_words)}
        for n in range(count)
    ]


def shingles(line: dict[str, Any]) -> set[tuple[str, ...]]:
    words = f"{line['instruction']} {line['output']}".lower().split()
    return {tuple(words[place : place + 3]) for place in range(len(words) - 2)}


@pytest.mark.ci
def test_the_scores_are_the_jaccard_similarity_and_the_best_is_first(make_workspace: Any, hold: Any) -> None:
    data = lines(300)
    finder = Nearest(hold(make_workspace(lines=data)))
    for line in data[:40]:
        found = finder.find(line, 10)
        expected = {
            other["id"]: len(shingles(line) & shingles(other)) / len(shingles(line) | shingles(other)) for other in data
        }
        assert found[0].id == line["id"]
        assert found[0].score == 1.0
        assert [one.score for one in found] == pytest.approx([expected[one.id] for one in found])
        others = sorted(expected.values(), reverse=True)[1:]
        assert max([one.score for one in found[1:]], default=0) == pytest.approx(others[0])
        plain = [one.score for one in found if not one.kind]
        assert plain == sorted(plain, reverse=True)


def test_long_texts_are_found() -> None:
    chance = random.Random(3)
    texts = [text(chance, 400) for _ in range(400)]
    records = [Record(f"r{row}", "domain", Source("a", row), {}, text=text) for row, text in enumerate(texts)]
    corpus, method = gather(records), method_of(DedupeSettings())
    index = ShingleIndex.of(corpus.spans("record"), corpus.keys("record"), method)
    for row in range(0, 400, 7):
        words = texts[row].split()
        for _ in range(40):
            words[chance.randrange(400)] = "changed"
        changed = gather([replace(records[row], text=" ".join(words))])
        assert row in index.candidates(changed.spans("record"), method.ngram, 3)


def test_what_the_nearest_would_be_called(make_workspace: Any, hold: Any) -> None:
    data = lines(40, 30)
    finder = Nearest(hold(make_workspace(lines=data)))
    asked, answer = data[5]["instruction"], data[5]["output"]
    same = finder.find({"instruction": asked + " now", "output": answer})[0]
    assert (same.id, same.kind) == ("r005", "repeat")
    other = finder.find({"instruction": asked + " now", "output": data[9]["output"]})[0]
    assert (other.id, other.kind) == ("r005", "other answer")
    begun = next(one for one in finder.find({"instruction": asked}) if one.id == "r005")
    assert begun.kind == "same prompt"
    assert finder.threshold == 0.7


def test_records_that_were_edited_added_dropped_or_are_meant_themselves(make_workspace: Any, hold: Any) -> None:
    data = lines(40, 30)
    project = hold(make_workspace(lines=data))
    finder = Nearest(project)
    ask = {"instruction": data[5]["instruction"], "output": data[5]["output"]}
    assert [one.id for one in finder.find(ask)][:1] == ["r005"]
    assert "r005" not in [one.id for one in finder.find(ask, without="r005")]
    project.apply([Edit("r005", {"instruction": "quite other", "output": "words"})])
    assert "r005" not in [one.id for one in finder.find(ask)]
    assert finder.find({"instruction": "quite other", "output": "words"})[0].id == "r005"
    project.apply([Add("new", {"id": "new", **ask})])
    assert finder.find(ask)[0].id == "new"
    project.apply([Drop("new", reason="test")])
    assert "new" not in [one.id for one in finder.find(ask)]
    project.undo()
    project.undo()
    assert "new" not in [one.id for one in finder.find(ask)]
    project.undo()
    assert finder.find(ask)[0].id == "r005"


def test_lines_that_are_not_valid_yet_are_compared_by_their_texts(make_workspace: Any, hold: Any) -> None:
    def turns_of(one: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"role": "user", "content": one["instruction"]}, {"role": "assistant", "content": one["output"]}]

    data = [{"id": f"c{n}", "messages": turns_of(one)} for n, one in enumerate(lines(20, 30))]
    finder = Nearest(hold(make_workspace(lines=data, settings='schema = "chat"\n')))
    turns: list[Any] = [data[3]["messages"][0], {"role": "assistant"}, "odd", {"role": "user", "content": 5}]
    assert finder.find({"messages": turns})[0].id == "c3"
    for line in ({}, {"messages": 5}, {"messages": [{}]}, {"messages": [{"role": "user", "content": ""}]}):
        assert finder.find(line) == []


def test_texts_without_blanks(make_workspace: Any, hold: Any) -> None:
    data = [
        {"id": "zh", "instruction": "如何退货并取得退款", "output": "请在三十天内退回商品"},
        {"id": "de", "instruction": "Wie gebe ich Ware zurück, die nicht passt?", "output": "Binnen dreißig Tagen."},
    ]
    finder = Nearest(hold(make_workspace(lines=data)))
    assert finder.find({"instruction": "如何退货并取得退款吗", "output": "请在三十天内退回"})[0].id == "zh"
    found = finder.find({"instruction": "Wie gebe ich Ware zurück, die nicht gefällt?", "output": ""})
    assert [one.id for one in found] == ["de"]


def test_an_empty_workspace_has_no_nearest(make_workspace: Any, hold: Any) -> None:
    assert Nearest(hold(make_workspace(lines=[]))).find({"instruction": "a b c d", "output": "e"}) == []


def test_the_index_is_made_anew_when_the_files_change(make_workspace: Any, hold: Any) -> None:
    workspace = make_workspace(lines=lines(40))
    assert Nearest(hold(workspace)).find(lines(40)[7])[0].id == "r007"
    (workspace.root / "data" / "b.jsonl").write_text('{"id": "x", "instruction": "a b c d", "output": "e"}\n')
    assert Nearest(hold(workspace)).find({"instruction": "a b c d", "output": "e"})[0].id == "x"


def test_what_is_added_or_edited_is_found_by_its_meaning(make_workspace: Any, hold: Any) -> None:
    for name in ("faiss", "tokenizers", "safetensors"):
        pytest.importorskip(name)
    from tests.curate.test_dedupe_semantic import TEXTS, made

    data = {name: {"id": name, "instruction": text or "tree", "output": "the"} for name, text in TEXTS.items()}
    workspace = make_workspace(lines=[data[name] for name in "acdef"], settings='[dedupe]\nencoder = "encoder"\n')
    made(workspace.root / "encoder")
    # One is there before the records are read, and one comes later.
    decide(workspace, [Add("b", data["b"])])
    project = hold(workspace)
    finder = nearest.NearestByMeaning(project)
    assert finder.find("a")[0].id == "b"
    assert finder.find("b")[0].id == "a"
    same = finder.find("a")[0].score
    project.apply([Add("g", {**data["b"], "id": "g"}), Edit("b", {"instruction": "sun moon"})])
    assert (finder.find("a")[0].id, finder.find("g")[0].id, finder.find("d")[0].id) == ("g", "a", "b")
    assert finder.find("a")[0].score == pytest.approx(same)
    project.undo()
    assert finder.find("a")[0].id == "b"
    assert "g" not in {one.id for one in finder.find("a")}
    assert finder.find("g") == []
