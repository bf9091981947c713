"""One render gives the text and the places of the answers, where no code of the template can read the marks."""

from __future__ import annotations

import pytest

from train.data.rendering.template import MARK_END, MARK_START, ChatTemplate

TALK = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}]
GENERATION = "{% generation %}{{ message['content'] }}{% endgeneration %}"
LOOP = "{% for message in messages %}<" + GENERATION + ">{% endfor %}"


@pytest.mark.parametrize(
    ("source", "is_sure"),
    [
        (LOOP, True),
        ("{% if messages %}" + LOOP + "{% endif %}", True),
        ("{% set x %}" + LOOP + "{% endset %}{{ x | length }}", False),
        ("{% macro one() %}" + LOOP + "{% endmacro %}{{ one() | length }}", False),
        ("{% filter upper %}" + LOOP + "{% endfilter %}", False),
        ("{% block one %}" + LOOP + "{% endblock %}{{ self.one() | length }}", False),
        ("{% for message in messages %}{% generation %}" + GENERATION + "{% endgeneration %}{% endfor %}", False),
    ],
)
def test_the_text_without_marks_is_the_one_that_has_none(source: str, is_sure: bool) -> None:
    template = ChatTemplate(source, {})
    plain = template.render(TALK, None, is_prompt=False)
    marked = template.render(TALK, None, is_prompt=False, has_marks=True)
    assert template.without_marks(marked) == (plain if is_sure else None)


@pytest.mark.parametrize("mark", [MARK_START, MARK_END])
def test_a_mark_of_the_data_is_left_where_it_is(mark: str) -> None:
    template = ChatTemplate(LOOP, {})
    talk = [{"role": "assistant", "content": f"x{mark}y"}]
    assert template.without_marks(template.render(talk, None, is_prompt=False, has_marks=True)) is None
