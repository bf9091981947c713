"""What counts as a leak and what does not: planted pairs, templates, short texts, scripts without blanks, real text."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from curate.base.record import Record, Source, normalised
from curate.schema.settings import LeakSettings
from curate.similarity.leaks import Exam, Leak, Leaks, compare_exams, find_leaks
from curate.similarity.leaks.evidence import SearchedRecords
from curate.similarity.leaks.words import is_by_character, words_of

SETTINGS = LeakSettings()


def record(name: str, prompt: str, completion: str = "Yes.") -> Record:
    messages = ({"role": "user", "content": prompt}, {"role": "assistant", "content": completion})
    return Record(name, "instruction", Source("a.jsonl", 1), {}, prompt, completion, messages=messages)


def raw(name: str, text: str) -> Record:
    return Record(name, "domain", Source("a.jsonl", 1), {}, text=text)


def words(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [f"{rng.choice('bcdfgh')}{rng.choice('aeiou')}n{rng.randrange(10**6)}" for _ in range(count)]


def text(seed: int, count: int) -> str:
    return " ".join(words(seed, count))


def noise(count: int, start: int) -> list[Record]:
    return [record(f"noise{n}", text(start + n, 40), text(start + 500_000 + n, 40)) for n in range(count)]


def leak(exam: Record, *pool: Record, chosen: LeakSettings = SETTINGS) -> Leak | None:
    """Return the leak of one exam record, hidden between others that have nothing in common."""
    found = find_leaks(
        [*noise(3, 10**6), exam, *noise(3, 10**7)], [*noise(20, 10**8), *pool, *noise(20, 10**9)], chosen
    )
    assert found.num_exam == 7
    assert found.num_pool == 40 + len(pool)
    assert all(one.exam is exam for one in found.leaks)
    assert len(found.leaks) <= 1
    return found.leaks[0] if found.leaks else None


def verdict(exam: Record, *pool: Record) -> tuple[str, str, str] | None:
    found = leak(exam, *pool)
    return found and (found.worst.level, found.worst.part, found.source.id)


def test_a_prompt_is_known_whatever_its_case_its_punctuation_and_its_answer() -> None:
    asked = text(1, 30)
    shown = asked.upper().replace(" ", ",  ", 5) + "?!"
    assert verdict(record("e", asked, text(2, 30)), record("p", shown, text(3, 30))) == ("verbatim", "prompt", "p")


def test_the_whole_record_says_more_than_its_prompt() -> None:
    asked, answer = text(1, 30), text(2, 30)
    pool = [record("other", asked, text(3, 30)), record("same", asked, answer)]
    found = leak(record("e", asked, answer), *pool)
    assert found
    assert (found.worst.part, found.source.id) == ("record", "same")
    assert {one.part for one in found.overlaps} == {"record", "prompt", "completion"}
    assert found.severity == "error"


def test_a_long_answer_alone_is_a_leak_and_a_short_one_is_none() -> None:
    long, short = text(4, 30), text(5, 12)
    assert verdict(record("e", text(1, 30), long), record("p", text(2, 30), long)) == ("verbatim", "completion", "p")
    assert verdict(record("e", text(1, 30), short), record("p", text(2, 30), short)) is None
    assert verdict(record("e", text(1, 30), "Yes."), record("p", text(2, 30), "Yes.")) is None


def test_an_answer_that_many_give_is_no_leak_and_neither_is_one_that_its_own_prompt_holds() -> None:
    thanks, page = text(6, 15), text(7, 40)
    pool = [record(f"p{n}", text(100 + n, 30), thanks) for n in range(SETTINGS.max_prompts + 1)]
    assert verdict(record("e", text(1, 30), thanks), *pool) is None
    extract = " ".join(page.split()[5:25])
    found = leak(record("e", f"{text(1, 9)}\n{page}", extract), record("p", f"{text(2, 9)}\n{page}", text(3, 9)))
    assert found
    assert [(one.part, one.level) for one in found.overlaps] == [("prompt", "partial")]


def test_with_other_numbers_or_of_the_same_page_it_is_another_question() -> None:
    asked = text(1, 30)
    same, other = f"{asked} 17 {text(2, 10)}", f"{asked} 18 {text(2, 10)}"
    assert verdict(record("e", same), record("p", other)) == ("partial", "prompt", "p")
    assert verdict(record("e", same), record("p", f"{asked} 17 more {text(2, 10)}")) == ("near", "prompt", "p")
    page = text(3, 60)
    assert verdict(record("e", f"{text(4, 8)}\n{page}"), record("p", f"{text(5, 8)}\n{page}")) == (
        "partial", "prompt", "p",
    )  # fmt: skip
    assert verdict(record("e", f"{text(4, 8)}\n{page}"), record("p", f"{page}\n{text(4, 8)}")) == (
        "near", "prompt", "p",
    )  # fmt: skip


def test_what_is_put_together_from_common_phrases_is_no_leak() -> None:
    # No eight words in a row are those of many, yet every four are.
    phrases = [text(200 + n, 4) for n in range(8)]
    rng = random.Random(3)
    made = [" ".join(rng.sample(phrases, 6)) for _ in range(60)]
    pool = [record(f"p{n}", f"{one} {text(400 + n, 5)}", text(500 + n, 9)) for n, one in enumerate(made)]
    exam = [record(f"e{n}", f"{one} {text(600 + n, 5)}", text(700 + n, 9)) for n, one in enumerate(made)]
    assert [one.severity for one in find_leaks(exam, pool, SETTINGS).leaks if one.severity == "error"] == []
    (known,) = [
        one for one in find_leaks([*exam, record("known", pool[7].prompt)], pool, SETTINGS).leaks
        if one.severity == "error"
    ]  # fmt: skip
    assert (known.exam.id, known.source.id, known.worst.level) == ("known", "p7", "verbatim")


def test_short_prompts_leak_when_they_are_equal() -> None:
    assert verdict(record("e", "Who wrote Emma?"), record("p", "who wrote  Emma", "Jane Austen")) == (
        "verbatim", "prompt", "p",
    )  # fmt: skip
    assert verdict(record("e", "Who wrote Emma?"), record("p", "Who wrote Persuasion?")) is None
    # A short question inside a longer text is no evidence, and a short answer is not a question.
    assert verdict(record("e", "Who wrote Emma?"), record("p", f"{text(1, 9)} who wrote Emma {text(2, 9)}")) is None
    assert verdict(record("e", "Yes!"), record("p", text(1, 30), "yes")) is None


@pytest.mark.parametrize(
    ("asked", "other"),
    [("What is 3 + 4?", "What is 3 * 4?"), ("True and ( False or True )", "( True and False ) or True"),
     ("Mend: 'No, stop'", "Mend: 'No stop'")],
)  # fmt: skip
def test_short_prompts_with_other_signs_ask_something_else(asked: str, other: str) -> None:
    assert verdict(record("exam", asked), record("train", other)) is None
    assert verdict(record("exam", asked), record("p", f"**{asked.lower()}**", "No.")) == ("verbatim", "prompt", "p")


def test_a_short_prompt_with_many_answers_asks_for_nothing_in_particular() -> None:
    some = [record(f"p{n}", "Go on.", f"answer {n}") for n in range(SETTINGS.max_prompts)]
    exam = record("e", "Go on.", "something else")
    assert verdict(exam, *some) == ("verbatim", "prompt", "p0")
    assert verdict(exam, *some, record("p", "Go on.", "one more")) is None
    # With the answer it is the same record again, however common the prompt.
    same = record("same", "go on", "Something else!")
    assert verdict(exam, *some, record("p", "Go on.", "one more"), same) == ("verbatim", "record", "same")


@pytest.mark.parametrize("share", [0.05, 0.1])
def test_a_reworded_prompt_is_near(share: float) -> None:
    rng = random.Random(7)
    for seed in range(20):
        own = words(seed, 40)
        changed = list(own)
        for place in rng.sample(range(40), round(40 * share)):
            changed[place] = f"new{place}"
        found = leak(record("e", " ".join(own), text(91, 20)), record("p", " ".join(changed), text(92, 20)))
        assert found
        assert found.worst.level == "near"
        assert 0.5 <= found.worst.coverage < 1
        assert found.severity == "error"


def test_a_question_quoted_in_an_answer_is_verbatim_and_a_passage_of_a_long_text_is_partial() -> None:
    asked = text(1, 30)
    quoted = f"{text(2, 40)} {asked} {text(3, 40)}"
    assert verdict(record("e", asked), record("p", text(4, 30), quoted)) == ("verbatim", "prompt", "p")
    found = leak(record("e", quoted), record("p", f"{text(8, 50)} {text(2, 40)[:200]} {text(9, 50)}"))
    assert found
    assert found.worst.level == "partial"
    assert found.severity == "warning"
    assert found.worst.passage in quoted
    assert found.worst.run == len(found.worst.passage.split()) >= SETTINGS.ngram


def test_a_passage_shorter_than_ngram_is_none_in_a_long_text() -> None:
    passage = text(1, 12)
    exam, pool = record("e", f"{text(2, 60)} {passage}"), record("p", f"{passage} {text(3, 60)}")
    assert leak(exam, pool) is None
    assert leak(exam, pool, chosen=LeakSettings(ngram=12))


def template(kind: int, own: list[str]) -> str:
    """Return a prompt in one of four templates: before, behind, and around what is asked, and with one-word blanks."""
    fixed = words(99, 60)
    if kind == 0:
        return " ".join([*fixed, *own])
    if kind == 1:
        return " ".join([*own, *fixed])
    if kind == 2:
        return " ".join([*fixed[:20], *own[:5], *fixed[20:40], *own[5:10], *fixed[40:], *own[10:]])
    return " ".join([*fixed[:15], own[0], *fixed[15:30], own[1], *fixed[30:], own[2]])


@pytest.mark.parametrize("kind", range(4))
def test_templates_are_no_evidence_and_hide_no_leak(kind: int) -> None:
    pool = [record(f"p{n}", template(kind, words(n, 25)), text(7000 + n, 20)) for n in range(60)]
    exam = [record(f"e{n}", template(kind, words(300 + n, 25)), text(8000 + n, 20)) for n in range(60)]
    found = find_leaks(exam, pool, SETTINGS)
    assert found.leaks == []
    assert found.num_templates > 0
    known = record("known", template(kind, words(30, 25)), text(9000, 20))
    (only,) = find_leaks([*exam, known], pool, SETTINGS).leaks
    assert (only.exam.id, only.source.id, only.worst.level) == ("known", "p30", "verbatim")
    if kind < 2:
        own = words(31, 25)
        own[12] = "reworded"
        (only,) = find_leaks([*exam, record("near", template(kind, own), text(9001, 20))], pool, SETTINGS).leaks
        assert (only.source.id, only.worst.level) == ("p31", "near")


def test_one_prompt_in_many_records_is_no_template() -> None:
    asked = text(1, 30)
    pool = [record(f"p{n}", asked, text(100 + n, 20)) for n in range(50)]
    found = leak(record("e", asked, text(2, 20)), *pool)
    assert found
    assert (found.worst.level, found.worst.part, found.source.id) == ("verbatim", "prompt", "p0")
    assert [(one.source.id, one.exam.id, one.severity) for one in found.also] == [
        (f"p{n}", "e", "error") for n in range(1, 8)
    ]


def test_those_that_give_less_away_are_named_behind_and_partial_ones_are_not() -> None:
    own = words(1, 40)
    pool = [
        record("partial", " ".join([*own[:14], *words(2, 60)])),
        record("near", " ".join([*own[:25], *words(3, 5)])),
        record("whole", " ".join(own)),
    ]
    found = leak(record("e", " ".join(own)), *pool)
    assert found
    assert found.source.id == "whole"
    assert [one.source.id for one in found.also] == ["near"]


def test_a_turn_of_a_chat_is_a_question_too() -> None:
    turns = ["Hello there.", "Where does the Danube end?", "And the Rhine?"]
    messages = [
        {"role": role, "content": content} for turn in turns for role, content in (("user", turn), ("assistant", "So."))
    ]
    prompt = "\n".join(str(message["content"]) for message in messages[:-1])
    chat = Record("chat", "chat", Source("c.jsonl", 1), {}, prompt, "So.", messages=tuple(messages))
    assert verdict(record("e", "where does the danube end", text(1, 20)), chat) == ("verbatim", "prompt", "chat")


def test_raw_text_is_compared_with_prompts_both_ways() -> None:
    asked = text(1, 30)
    page = f"{text(2, 100)} {asked} {text(3, 100)}"
    assert verdict(record("e", asked), raw("page", page)) == ("verbatim", "prompt", "page")
    assert verdict(raw("e", asked), raw("page", page)) == ("verbatim", "text", "page")
    assert verdict(raw("e", page), record("p", asked)) == ("partial", "text", "p")


def test_scripts_without_blanks_are_compared_by_character() -> None:
    asked = "作制一件袍子需要两匹蓝色纤维布料和这个数量一半的白色纤维布料它一共需要用掉多少匹布料呢"
    assert is_by_character(words_of(asked))
    assert verdict(record("e", asked), record("p", "请问：" + asked + "？")) == ("verbatim", "prompt", "p")
    # Eight characters in common are some four words, which are no evidence.
    other = "蓝色纤维布料和这个人们每天早上都去城里的市场买东西然后回家吃午饭"
    assert verdict(record("e", asked), record("p", other)) is None


def test_words_are_kept_whole_in_every_script() -> None:
    assert words_of("Janet’s 16 EGGS—a day_off, ﬁne!") == ["janet", "s", "16", "eggs", "a", "day", "off", "fine"]
    assert words_of("हिन्दी जेनेटের") == ["हिन्दी", "जेनेटের"]
    assert words_of("日本 ab") == ["日", "本", "ab"]
    assert words_of(" \n.,") == []


def test_nothing_to_compare_finds_nothing() -> None:
    one = record("e", text(1, 30))
    assert find_leaks([], [one], SETTINGS).leaks == []
    assert find_leaks([one], [], SETTINGS).leaks == []
    assert find_leaks([record("e", "", "")], [record("p", "", "")], SETTINGS).leaks == []
    assert find_leaks([record("e", "?!")], [record("p", "...")], SETTINGS).leaks == []


def test_the_verdict_does_not_depend_on_what_stands_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [template(n % 6, words(n, 25)) if n % 6 < 4 else text(n, 30) for n in range(90)]
    pool = [record(f"p{n}", prompt, text(600 + n, 25)) for n, prompt in enumerate(asked)]
    exam = [record(f"e{n}", pool[n].prompt, text(5000 + n, 20)) for n in range(0, 90, 7)] + noise(20, 10**6)
    whole = [(one.exam.id, one.source.id, one.overlaps) for one in find_leaks(exam, pool, SETTINGS).leaks]
    assert len(whole) == 13
    # The same in many small chunks.
    monkeypatch.setattr("curate.similarity.dedupe.shingles.BLOCK", 500)
    again = [(one.exam.id, one.source.id, one.overlaps) for one in find_leaks(exam, pool, SETTINGS).leaks]
    assert again == whole


@pytest.mark.ci
def test_a_text_that_says_one_thing_over_and_over_is_no_trap() -> None:
    exam = record("e", "la " * 5000, "do re mi " * 2000)
    pool = [record(f"p{n}", "la " * 4000 + str(n), "do re mi " * 1500) for n in range(3)]
    assert len(find_leaks([exam], pool, SETTINGS).leaks) == 1


def test_words_as_long_as_a_blob_are_compared_in_full() -> None:
    blob = "x" * 10_000
    exam = record("e", f"{text(1, 10)} {blob}a {text(2, 10)}")
    assert verdict(exam, record("p", f"{text(1, 10)} {blob}a {text(2, 10)}", "No.")) == (
        "verbatim", "prompt", "p",
    )  # fmt: skip
    assert verdict(exam, record("p", f"{text(3, 10)} {blob}b {text(4, 10)}")) is None


def mixed(rng: random.Random, number: int) -> Record:
    """Return a record of few words, templates, other records' passages, several turns, or a script without blanks."""
    vocabulary = rng.choice([["a", "b", "dé", "語"], [f"w{n}" for n in range(300)], ["ไ", "ท", "字", "文"]])
    passage = words(rng.randrange(150), rng.randrange(5, 30))

    def said() -> str:
        own = rng.choices(vocabulary, k=rng.randrange(30))
        return " ".join(rng.choice([own, [*passage, *own], [*own, *passage], [*words(99, 12), *own], passage]))

    if number % 7 == 0:
        return raw(str(number), said())
    if number % 5:
        return record(str(number), said() if number % 11 else "Go on.", said())
    turns = tuple({"role": role, "content": said()} for _ in range(2) for role in ("user", "assistant"))
    prompt = "\n\n".join(str(turn["content"]) for turn in turns[:-1])
    return Record(str(number), "chat", Source("c", 1), {}, prompt, str(turns[-1]["content"]), said(), messages=turns)


@pytest.mark.ci
@pytest.mark.parametrize("seed", range(8))
def test_several_exams_at_once_are_each_as_alone(seed: int) -> None:
    rng = random.Random(seed)
    records = [mixed(rng, number) for number in range(300)]
    short, most = rng.choice([3, 8]), rng.choice([2, 5])
    chosen = LeakSettings(ngram=13, short_ngram=short, max_prompts=most)
    split = [rng.choice(["train", "train", "train", "validation", "test", "benchmark"]) for _ in records]
    rows = {name: [row for row, other in enumerate(split) if other == name] for name in set(split)}
    pool = [*rows["train"], *rows["validation"]]
    benchmark, test = Exam(rows["benchmark"], len(rows["train"])), Exam(rows["test"], len(pool))
    exams = [benchmark, test, Exam(rows["validation"], len(rows["train"]))]
    corpus = SearchedRecords(records)
    # An earlier search of the same corpus changes nothing.
    compare_exams(corpus, rows["test"], [Exam(rows["train"], len(rows["test"]))], chosen)
    together = compare_exams(corpus, pool, [Exam([], 10), *exams, Exam([1, 2], 0)], chosen)
    alone = [([records[row] for row in exam.rows], [records[row] for row in pool[: exam.num_pool]]) for exam in exams]
    assert together == [Leaks([], 0, 10, 0), *(find_leaks(*one, chosen) for one in alone), Leaks([], 2, 0, 0)]
    assert sum(len(one.leaks) for one in together) > 5


def json_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.ci
def test_every_repeated_question_of_dolly_is_found(shared: Path) -> None:
    first: dict[str, Record] = {}
    exam: list[Record] = []
    groups: set[str] = set()
    rows = [row for path in sorted((shared / "data/dolly-15k-v0").glob("*.jsonl")) for row in json_lines(path)]
    for number, row in enumerate(rows):
        key = normalised(f"{row['instruction']}\0{row['context']}")
        one = record(str(number), f"{row['instruction']}\n{row['context']}", row["response"])
        if key in first:
            groups.add(key)
            exam.append(one)
        else:
            first[key] = one
    assert len(groups) >= 65
    found = find_leaks(exam, list(first.values()), SETTINGS)
    assert len(found.leaks) == len(exam)
    assert {one.worst.level for one in found.leaks} == {"verbatim"}
    pairs = {one.exam.id: normalised(one.source.prompt) for one in found.leaks}
    same = [normalised(one.prompt) == pairs[one.id] for one in exam]
    # The rest repeat another record's answer or text as well, word by word.
    assert np.mean(same) > 0.95


def test_mgsm_against_gsm8k_stays_silent(shared: Path) -> None:
    rows = json_lines(shared / "data/gsm8k/train.jsonl")
    pool = [record(str(number), row["question"], row["answer"]) for number, row in enumerate(rows)]
    lines = (shared / "data/mgsm/mgsm_en.tsv").read_text(encoding="utf-8").splitlines()
    exam = [record(str(number), *line.split("\t")) for number, line in enumerate(lines)]
    assert (len(pool), len(exam)) == (7473, 250)
    assert find_leaks(exam, pool, SETTINGS).leaks == []
