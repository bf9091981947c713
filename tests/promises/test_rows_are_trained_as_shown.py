"""Each row is proved before a step is computed, and what `train preview` shows is what is trained.

"One beginning-of-text token, an end token that is trained, no prompt token that is, what is trained decodes to the
answer, and tools, calls, results and reasoning all stand in the text. Rows that fail are refused by their id." The
oracle is `transformers`: its chat template, its tokenizer and its loss.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, NamedTuple

import pytest

from tests.promises import bases, outside
from tests.promises.outside import Row

END = 2
TEMPLATES = {
    "turns": bases.TURNS,
    "begins with a bos": "{{ bos_token }}" + bases.TURNS,
    "no line between turns": bases.TURNS.replace("<end>\n", "<end>").replace("m.content", "m.content | trim"),
}
_LINE = re.compile(r" *(\d+)  (trained|x [\d.]+|) +(\w+) *\|.*\|")
_HEAD = re.compile(r"(\S+): (\d+) tokens, (\d+) trained, category .*")


class Token(NamedTuple):
    """A line of `train preview --ids`."""

    id: int
    weight: float
    role: str


def says(role: str, content: str, **more: Any) -> Row:
    return {"role": role, "content": content, **more}


def conversation(name: str, *messages: Row, split: str = "train", **more: Any) -> Row:
    return {"id": name, "category": "desk", "split": split, "messages": list(messages), **more}


def export(folder: Path, rows: Iterable[Row], schema: str = "chat") -> Path:
    asked = f'schema = "{schema}"\n[split]\nseed = 1\n'
    workspace = outside.make_workspace(folder, rows, asked)
    outside.succeed(outside.curate("export", workspace))
    return workspace / "dataset" / "v1"


CHECK = conversation("check", says("user", "Is it here?"), says("assistant", "It is."), split="validation")
"""Something to measure by, without which no run begins."""


def some_conversations(count: int) -> list[Row]:
    """Draw conversations of one to three questions, some after a system text, some with answers that are left out."""
    draw = random.Random(7)
    words = ["parcel", "café", "naïve", "日本", "two\nlines", "x = {1}", "100 %", "it's", "ö", "🙂"]
    rows = []
    for number in range(count):
        messages = [says("system", f"Be brief, {number}.")] if draw.random() < 0.5 else []
        for turn in range(draw.randint(1, 3)):
            left_out = {"train": False} if turn == 0 and number % 3 == 2 else {}
            messages.append(says("user", " ".join(["Where", *draw.choices(words, k=3), f"{number}{turn}?"])))
            messages.append(says("assistant", " ".join(["Here", *draw.choices(words, k=2), f"{turn}."]), **left_out))
        messages[-1].pop("train", None)
        rows.append(conversation(f"chat-{number:02}", *messages))
    return rows


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("chats") / "desk", [*some_conversations(12), CHECK])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bases.make_base(tmp_path_factory.mktemp("bases") / "turns")


def preview(dataset: Path, base: Path, *more: object) -> dict[str, list[Token]]:
    """Return the tokens that `train preview` shows of each training record."""
    printed = outside.succeed(outside.train("preview", dataset, "--base", base, "--ids", "-n", 99, *more))
    shown: dict[str, list[Token]] = {}
    counted: dict[str, tuple[int, int]] = {}
    for line in printed.splitlines():
        if head := _HEAD.fullmatch(line):
            shown[head[1]], counted[head[1]] = [], (int(head[2]), int(head[3]))
            tokens = shown[head[1]]
        elif found := _LINE.fullmatch(line):
            weight = {"trained": "1", "": "0"}.get(found[2], found[2].removeprefix("x "))
            tokens.append(Token(int(found[1]), float(weight), found[3]))
    assert {name: (len(t), sum(x.weight > 0 for x in t)) for name, t in shown.items()} == counted
    return shown


def by_transformers(
    base: Path, messages: list[Row], *, trains_last_alone: bool = False
) -> tuple[list[int], list[bool]]:
    """Return the ids of a conversation, and which an answer and its end token are, by `apply_chat_template`."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)

    def render(part: list[Row], *, asks: bool = False) -> list[int]:
        text = tokenizer.apply_chat_template(part, tokenize=False, add_generation_prompt=asks)
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    ids = render(messages)
    mask = [False] * len(ids)
    for place, message in enumerate(messages):
        is_asked = place == len(messages) - 1 or not trains_last_alone
        if message["role"] == "assistant" and message.get("train", True) and is_asked:
            start = len(render(messages[:place], asks=True))
            stop = ids.index(END, start) + 1
            assert tokenizer.decode(ids[start : stop - 1]) == message["content"]
            mask[start:stop] = [True] * (stop - start)
    return ids, mask


def refused(done: CompletedProcess[str]) -> tuple[int, list[str]]:
    return done.returncode, re.findall(r"\b(E\d{3})\b", done.stderr)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_tokens_shown_are_those_of_the_template_and_only_answers_with_their_end_are_trained(
    name: str, chats: Path, tmp_path: Path
) -> None:
    base = bases.make_base(tmp_path / "base", TEMPLATES[name], adds_bos="bos" in name)
    shown = preview(chats, base)
    rows = outside.read_rows(chats / "train.jsonl")
    assert shown.keys() == {row["id"] for row in rows}
    assert len(rows) == 12
    for row in rows:
        ids, mask = by_transformers(base, row["messages"])
        tokens = shown[row["id"]]
        assert [token.id for token in tokens] == ids
        assert [token.weight > 0 for token in tokens] == mask
        assert {token.role for token in tokens if token.weight} == {"assistant", "template"}
    left_out = [row for row in rows if any(message.get("train") is False for message in row["messages"])]
    assert left_out


def test_a_question_and_answer_trains_its_last_answer_alone(base: Path, tmp_path: Path) -> None:
    pairs = [row | {"split": "train"} for row in outside.rows_on("cats", 4)]
    dataset = export(tmp_path / "desk", pairs, "instruction")
    shown = preview(dataset, base)
    for row in outside.read_rows(dataset / "train.jsonl"):
        ids, mask = by_transformers(base, row["messages"], trains_last_alone=True)
        assert [(token.id, token.weight > 0) for token in shown[row["id"]]] == list(zip(ids, mask, strict=True))
    assert len(shown) == 4


def test_a_plan_counts_the_tokens_that_previews_show(chats: Path, base: Path) -> None:
    shown = preview(chats, base)
    plan = json.loads(outside.succeed(outside.train("plan", chats, "--base", base, "--no-measure", "--json")))
    assert plan["records"] == len(shown)
    assert plan["tokens"] == sum(len(tokens) for tokens in shown.values())
    assert plan["supervised"] == sum(token.weight > 0 for tokens in shown.values() for token in tokens)
    assert plan["longest"] == max(len(tokens) for tokens in shown.values())


def test_the_first_loss_and_gradient_are_those_of_the_tokens_and_weights_that_were_shown(
    base: Path, tmp_path: Path
) -> None:
    rows = some_conversations(6)
    rows[0]["messages"][-1]["weight"] = 0.5
    rows[1]["weight"] = 0.25
    dataset = export(tmp_path / "desk", [*rows, CHECK])
    shown = preview(dataset, base)
    assert {token.weight for tokens in shown.values() for token in tokens} == {0, 0.25, 0.5, 1}
    changes = [
        "method=full", "max_steps=1", "global_batch_size=6", "eval.fit_records=0", "eval.max_new_tokens=1",
        "eval.resamples=100", "bf16=false", "device=cpu",
    ]  # fmt: skip
    words = [word for change in changes for word in ("--set", change)]
    outside.succeed(outside.train("run", dataset, "--base", base, "--out", tmp_path / "run", *words))
    step = next(e for e in outside.read_rows(tmp_path / "run" / "metrics.jsonl") if e["event"] == "step")
    assert step["step"] == 1
    assert step["supervised"] == sum(token.weight > 0 for tokens in shown.values() for token in tokens)
    loss, gradient = _loss_and_gradient(base, shown.values())
    assert step["loss"] == pytest.approx(loss, abs=1e-4)
    assert step["grad_norm"] == pytest.approx(gradient, rel=1e-3)


def _loss_and_gradient(base: Path, records: Iterable[list[Token]]) -> tuple[float, float]:
    """Return the mean loss of a token by its weight, and the length of its gradient."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    total, weights = torch.zeros(()), 0.0
    for tokens in records:
        ids = torch.tensor([token.id for token in tokens])
        weight = torch.tensor([token.weight for token in tokens])
        logits = model(ids[None]).logits[0]
        nats = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
        total = total + (nats * weight[1:]).sum()
        weights += float(weight[1:].sum())
    (total / weights).backward()
    squares = [float((parameter.grad**2).sum()) for parameter in model.parameters() if parameter.grad is not None]
    return float(total.detach()) / weights, sum(squares) ** 0.5


GOOD = conversation("good", says("user", "Where is it?"), says("assistant", "In the hall."))
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
THINKS = says("assistant", "In the hall.", reasoning_content="It was seen there.")
BAD = {
    "a control token in its text": (
        "E924", conversation("bad", says("user", "Hello <end> there?"), says("assistant", "Fine then."))
    ),
    "too long": ("E925", conversation("bad", says("user", "Tell me all."), says("assistant", "It is so. " * 60))),
    "a call that the template drops": (
        "E923", conversation("bad", says("user", "Look."), says("assistant", "", tool_calls=[CALL]), tools=[TOOL])
    ),
    "reasoning that the template drops": ("E923", conversation("bad", says("user", "Who saw it?"), THINKS)),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_row_that_cannot_be_proved_is_refused_by_its_id_before_anything_is_written(
    name: str, base: Path, tmp_path: Path
) -> None:
    code, bad = BAD[name]
    dataset = export(tmp_path / "desk", [GOOD, bad, CHECK])
    look = outside.train("preview", dataset, "--base", base, "-n", 9)
    assert refused(look) == (2, [code])
    assert "record bad:" in look.stderr
    assert _HEAD.findall(look.stdout)[0][0] == "good"

    run = outside.train("run", dataset, "--base", base, "--out", tmp_path / "run")
    assert refused(run)[0] == 2
    assert refused(run)[1][:1] == [code]
    assert re.search(r"\bbad\b", run.stderr)
    assert not re.search(r"\bgood\b", run.stderr)
    assert not (tmp_path / "run").exists()


def test_a_row_that_is_too_long_is_skipped_or_cut_only_where_asked_and_then_counted_by_its_id(
    base: Path, tmp_path: Path
) -> None:
    dataset = export(tmp_path / "desk", [GOOD, BAD["too long"][1], CHECK])
    plan = ["plan", dataset, "--base", base, "--no-measure", "--json", "--set"]
    skipped = outside.train(*plan, "on_too_long=skip")
    whole = json.loads(outside.succeed(skipped))
    assert whole["records"] == 1
    assert re.search(r"\b1\b.*\bbad\b", skipped.stderr)

    cut = outside.train(*plan, "on_too_long=cut")
    assert json.loads(outside.succeed(cut))["records"] == 2
    assert json.loads(cut.stdout)["longest"] == 512
    assert re.search(r"\b1\b.*\bbad\b", cut.stderr)


LOSSY = {
    "drops what the system says": bases.TURNS.replace("for m in messages", "for m in messages if m.role != 'system'"),
    "rewrites what the user says": bases.TURNS.replace("m.content", "(m.content | upper)"),
    "cuts answers": bases.TURNS.replace("m.content", "m.content[:9]"),
    "says answers twice": bases.TURNS.replace("m.content", "m.content + m.content"),
    "begins with two bos": "<bos><bos>" + bases.TURNS,
    "refuses": "{{ raise_exception('no') }}",
    "reaches out of the sandbox": "{{ messages.__class__.__mro__ }}" + bases.TURNS,
}


@pytest.mark.parametrize("name", LOSSY)
def test_a_template_that_is_not_true_to_the_record_is_refused(name: str, chats: Path, tmp_path: Path) -> None:
    base = bases.make_base(tmp_path / "base", LOSSY[name], adds_bos="bos" in name)
    with_system = next(row["id"] for row in some_conversations(12) if row["messages"][0]["role"] == "system")
    done = outside.train("preview", chats, "--base", base, "--id", with_system)
    assert refused(done) == (2, ["E922"])
    assert done.stdout == ""


def test_a_tokenizer_and_a_template_that_both_write_a_bos_give_one(chats: Path, tmp_path: Path) -> None:
    base = bases.make_base(tmp_path / "base", TEMPLATES["begins with a bos"], adds_bos=True)
    for tokens in preview(chats, base).values():
        assert [token.id for token in tokens].count(3) == 1
        assert (tokens[0].id, tokens[0].weight) == (3, 0)


def test_control_tokens_of_known_templates_do_not_even_leave_the_curation(tmp_path: Path) -> None:
    forged = conversation("forged", says("user", "Hi <|im_end|> there?"), says("assistant", "Fine then."))
    workspace = outside.make_workspace(tmp_path / "desk", [GOOD, forged], 'schema = "chat"\n[split]\nseed = 1\n')
    done = outside.curate("export", workspace)
    assert refused(done) == (1, ["E907"])
    assert "records.jsonl:2:" in done.stderr
    assert "X705" in done.stderr
    assert not (workspace / "dataset").exists()
