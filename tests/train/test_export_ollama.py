"""`train export --to ollama`: the Go template makes the model's own text, or the export is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from transformers import AutoTokenizer

from tests.train.finished import Bases, export, make_dataset, make_run, rows
from tests.train.tiny import CHATML, CHATML_WITHOUT_MARKS, LLAMA_LIKE, chat_row, make_tokenizer, write_dataset
from train.base.errors import Exit, TrainError
from train.cli import cli
from train.data.dataset import Dataset, Row
from train.data.rendering import Renderer
from train.pipeline.export.ollama import UNLIKE_THE_DATA, go_template

_WITH_DEFAULT = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe good.<|im_end|>\n{% endif %}" + CHATML_WITHOUT_MARKS
)
_MISTRAL_LIKE = (
    "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}<|im_end|>"
    "{% elif m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}{{ m.content }}\n\n{% endif %}{% endfor %}"
)
_COUNTS = CHATML_WITHOUT_MARKS.replace("{{ '<|im_start|>' +", "{{ loop.index0 ~ '<|im_start|>' +").replace(
    "{{ '<|im_start|>a", "{{ messages | length ~ '<|im_start|>a"
)
_QUOTES = CHATML_WITHOUT_MARKS.replace("+ '\n' }}", '+ \'\n{{"""\t\\\\ \u00fc\' }}', 1)


_TEXT = r'("(?:[^"\\]|\\.)*+")'
_BETWEEN = re.compile(
    rf"\{{\{{- (?:else )?if and \(eq \$last {_TEXT}\) \(eq \.Role {_TEXT}\) }}}}\{{\{{ {_TEXT} }}}}\n"
)
_OPENING = re.compile(rf"\{{\{{- (?:else )?if eq \$last {_TEXT} }}}}\{{\{{ {_TEXT} }}}}\n")
_FRAME = '{{- $last := "" }}{{ range .Messages }}\n{{- end }}\n{{- .Content }}{{ $last = .Role }}{{ end }}\n{{- end }}'


def render(made: str, messages: Sequence[Mapping[str, str]]) -> str:
    """Return what the branches of a template that `test_the_template_in_whole` shows make of ``messages``."""
    assert _OPENING.sub("", _BETWEEN.sub("", made)) == _FRAME
    before = {(json.loads(a), json.loads(b)): json.loads(text) for a, b, text in _BETWEEN.findall(made)}
    opening = {json.loads(role): json.loads(text) for role, text in _OPENING.findall(made)}
    roles = ["", *(message["role"] for message in messages)]
    between = [before[pair] for pair in pairwise(roles)]
    contents = [message["content"] for message in messages]
    return "".join(map("".join, zip(between, contents, strict=True))) + opening[roles[-1]]


@dataclass
class _Source:
    renderer: Renderer
    dataset: Dataset


def _source(template: str, *told: Row, kind: str = "unmarked") -> Any:
    tokenizer = make_tokenizer(kind)
    tokenizer.chat_template = template
    split = {"train": list(told or rows("t", 3)), "validation": [], "test": []}
    return _Source(Renderer(tokenizer, "sft"), Dataset(Path(), {}, split, ""))


_LONG = [
    chat_row("long", "one", "two", "three", "four", "five", "six", system="rules"),
    chat_row("odd", '{{ .Role }} """', " leading and {{ end }}\n", "said\n\n", "yes"),
]


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        (CHATML, "marked"),
        (CHATML_WITHOUT_MARKS, "unmarked"),
        (LLAMA_LIKE, "bos"),
        (_WITH_DEFAULT, "unmarked"),
        (_MISTRAL_LIKE, "unmarked"),
        (_QUOTES, "unmarked"),
        (CHATML_WITHOUT_MARKS, "bos"),
    ],
)
def test_the_go_template_makes_the_text_of_the_jinja_template(template: str, kind: str) -> None:
    """Also for conversations that nobody of the data set had."""
    # Contents that a template strips have no Go form, and are another test.
    told = [_LONG[0], *rows("t", 3)] if template == LLAMA_LIKE else [*_LONG, *rows("t", 3)]
    source = _source(template, *told, kind=kind)
    made = go_template(source)
    assert '"""' not in made
    tokenizer = source.renderer.tokenizer
    tokenizer.chat_template = source.renderer.served_template
    for messages in [*UNLIKE_THE_DATA, *([dict(one) for one in row.messages or ()] for row in told)]:
        asked = messages[:-1]
        wanted = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        # Ollama's runner adds the token that the tokenizer adds.
        assert render(made, asked) == (wanted.removeprefix("<|bos|>") if kind == "bos" else wanted)


@pytest.mark.parametrize(
    ("template", "row", "reason"),
    [
        (LLAMA_LIKE, chat_row("a", " blank ", "x"), "the template changes what the user says"),
        (_COUNTS, _LONG[0], "depends on more than the roles"),
        (CHATML, Row("b", "", "b", [
            {"role": "user", "content": "one"}, {"role": "user", "content": "two"},
            {"role": "assistant", "content": "x"},
        ], None, None), "two messages of the user follow one another"),
        (CHATML, Row("c", "", "c", [
            {"role": "user", "content": "one"}, {"role": "assistant", "content": "x"},
        ], [{"type": "function", "function": {"name": "f"}}], None), "it has tools"),
    ],
)  # fmt: skip
def test_what_go_cannot_say_is_refused_with_the_record_and_a_way_out(template: str, row: Row, reason: str) -> None:
    with pytest.raises(TrainError) as caught:
        go_template(_source(template, *rows("t", 2), row))
    assert caught.value.code == "E905 cannot-express"
    assert reason in caught.value.message
    assert row.id in caught.value.message
    assert "convert_hf_to_gguf.py" in caught.value.hint


def test_a_longer_conversation_that_would_differ_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The data has single questions only, for which the numbered template is proved."""
    go_template(_source(_COUNTS, chat_row("a", "one", "x")))
    assert "a conversation of user, assistant, user, assistant, user, which the data has not" in capsys.readouterr().err


def test_the_template_in_whole() -> None:
    """As Go's documentation has it: `{{-` takes the white space before it away, and an action's text stays as it is."""
    assert go_template(_source(CHATML, *rows("t", 2), kind="marked")) == "\n".join([
        '{{- $last := "" }}{{ range .Messages }}',
        '{{- if and (eq $last "") (eq .Role "system") }}{{ "<|im_start|>system\\n" }}',
        '{{- else if and (eq $last "") (eq .Role "user") }}{{ "<|im_start|>user\\n" }}',
        '{{- else if and (eq $last "assistant") (eq .Role "user") }}{{ "<|im_end|>\\n<|im_start|>user\\n" }}',
        '{{- else if and (eq $last "system") (eq .Role "user") }}{{ "<|im_end|>\\n<|im_start|>user\\n" }}',
        '{{- else if and (eq $last "user") (eq .Role "assistant") }}{{ "<|im_end|>\\n<|im_start|>assistant\\n" }}',
        "{{- end }}",
        "{{- .Content }}{{ $last = .Role }}{{ end }}",
        '{{- if eq $last "user" }}{{ "<|im_end|>\\n<|im_start|>assistant\\n" }}',
        "{{- end }}",
    ])  # fmt: skip


# peft reads a property that transformers renamed.
@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_the_modelfile_names_model_template_and_stops(bases: Bases, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "v1")
    run = make_run(dataset, bases(), tmp_path / "r", "max_steps=1")
    done = export(run, "ollama", tmp_path / "o")
    assert done.return_value == Exit.OK
    assert "loaded again" in done.stderr
    modelfile = (tmp_path / "o" / "Modelfile").read_text()
    found = re.fullmatch(r'FROM ./model\nTEMPLATE """(.*)"""\n(.*)', modelfile, re.DOTALL)
    assert found is not None
    assert found[2] == 'PARAMETER stop "<|im_end|>"\nPARAMETER temperature 0\n'
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "o" / "model")
    for row in rows("x", 4):
        asked = (row.messages or [])[:-1]
        wanted = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        assert render(found[1], asked) == wanted


# peft reads a property that transformers renamed.
@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_refused_export_writes_nothing(bases: Bases, tmp_path: Path) -> None:
    splits = {
        "train": [*rows("t", 2), chat_row("odd", " blank ", "x")],
        "validation": rows("v", 1),
        "test": rows("x", 1),
    }
    dataset = write_dataset(tmp_path / "data" / "v1", splits)
    run = make_run(dataset, bases("llama", "bos"), tmp_path / "r", "max_steps=1")
    command = ["export", str(run), "--to", "ollama", "--output", str(tmp_path / "o")]
    error = CliRunner().invoke(cli, command, standalone_mode=False).exception
    assert getattr(error, "code", "") == "E905 cannot-express"
    assert {path.name for path in tmp_path.iterdir()} == {"data", "r"}
