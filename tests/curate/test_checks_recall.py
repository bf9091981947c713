"""What the checks find of what is really there, and how silent they are on clean public data."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.base.record import Record, Source
from curate.checks import discover
from curate.checks.personal_data import find as find_personal
from curate.checks.runner.shortcuts import absence_of
from curate.checks.secret import find as find_secrets
from curate.schema import load_shape
from curate.schema.settings import Settings

INSTRUCTION = load_shape("instruction")


def codes_of(output: str, *codes: str, instruction: str = "Do it.", **more: object) -> list[str]:
    """Return which of the checks fire on an answer."""
    value = {"instruction": instruction, "output": output, **more}
    record: Record = INSTRUCTION.record(value, Source("data.jsonl", 1))
    checks = [discover()[code] for code in codes]
    return [check.code for check in checks if check.kind == "record" and any(check.run(record, Settings()))]


@pytest.fixture(scope="module")
def precision(root: Path) -> ModuleType:
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("precision_benchmark", root / "benchmarks" / "precision.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


def test_personal_data_is_found_in_public_sentences(shared: Path, precision: ModuleType) -> None:
    measured = precision.measure_personal_data(shared / "data")
    wanted = {
        "e-mail address": 1.0,
        "phone number": 0.85,
        "payment card number": 0.98,
        "IBAN": 1.0,
        "US social security number": 1.0,
        "IP address": 1.0,
    }
    assert set(measured) == set(wanted)
    for kind, hits in measured.items():
        assert hits.num_spans >= 10
        assert hits.num_recalled >= wanted[kind] * hits.num_spans, kind
        assert hits.num_right == hits.num_found, kind


@pytest.mark.ci
def test_checks_are_silent_on_clean_data_but_for_rows_with_the_defect(shared: Path, precision: ModuleType) -> None:
    seen, fired = precision.count(precision.CLEAN, shared / "data")
    assert seen["X702", "gsm8k"] == 7473
    assert fired == {
        ("X704", "gsm8k"): [6181, 7389],  # a no-break space between words; a zero-width space
        ("X701", "ifeval"): [417],  # a phone number with an assigned area code
    }


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("X701", "Hi,\nbob.smith@parcels.shop"),
        ("X701", "\n4111 1111 1111 1111"),
        ("X701", "\n+44 20 7183 8750"),
        ("X701", "\nGB82 WEST 1234 5698 7654 32"),
        ("X701", "\t078-05-1120"),
        ("X701", "\n86.121.97.248"),
        ("X702", "Key:\nAKIAIOSFODNN7EXAMPLE"),
        ("X702", 'password = "tR7!kQz29bLm"'),
    ],
)
@pytest.mark.parametrize(("depth", "is_spelled_out"), [(1, False), (2, False), (3, False), (0, True), (2, True)])
def test_escapes_of_json_within_a_text_hide_nothing(code: str, value: str, depth: int, is_spelled_out: bool) -> None:
    text = value
    for _ in range(depth):
        text = json.dumps({"body": text})
    if is_spelled_out:
        spelled = "".join(f"\\u{ord(character):04x}" for character in text)
        text = f'{{"body": "{spelled}"}}'
    record = INSTRUCTION.record({"instruction": "Which call?", "output": text}, Source("data.jsonl", 1))
    check = discover()[code]
    assert [problem.pointer for problem in check.run(record, Settings())] == ["/output"]
    assert not absence_of(check.signs)({"output": text})


SECRET_BODIES = "9fK2mQ7xTb4LwZ1vN8cR5yH3sD6gJ0pA2eUiB7nM4kXqW8zC1rV5tY3"
HEX = "3f9a1c7e5b2d8064a9c3e7f1b5d20864c7a1e9f3b5d7028c4e6a1f3b9d5c7e20"


@pytest.mark.parametrize(
    ("kind", "token"),
    [
        ("AWS access key id", "AKIA" + "QX3ZT7MPL2WNV5RB"),
        ("GitHub token", "ghp_" + SECRET_BODIES[:36]),
        ("GitHub token", "gho_" + SECRET_BODIES[:36]),
        ("GitHub fine-grained token", "github_pat_" + SECRET_BODIES[:22] + "_" + SECRET_BODIES[:30]),
        ("GitLab token", "glpat-" + SECRET_BODIES[:20]),
        ("Stripe key", "sk_live_" + SECRET_BODIES[:24]),
        ("API key of a model vendor", "sk-" + SECRET_BODIES[:48]),
        ("API key of a model vendor", "sk-ant-api03-" + SECRET_BODIES[:50]),
        ("API key of a model vendor", "sk-proj-" + SECRET_BODIES[:50]),
        ("Slack token", "xoxb-" + "274913650817-" + SECRET_BODIES[:24]),
        ("Slack webhook", "https://hooks.slack.com/services/T0A1B2C3D/B9F8E7D6C/" + SECRET_BODIES[:24]),
        ("Google API key", "AIza" + SECRET_BODIES[:35]),
        ("Google OAuth token", "ya29." + SECRET_BODIES[:40]),
        ("Google OAuth secret", "GOCSPX-" + SECRET_BODIES[:28]),
        ("Hugging Face token", "hf_" + SECRET_BODIES[:34]),
        ("npm token", "npm_" + SECRET_BODIES[:36]),
        ("PyPI token", "pypi-" + "AgEIcHlwaS5vcmc" + SECRET_BODIES),
        ("SendGrid key", "SG." + SECRET_BODIES[:22] + "." + SECRET_BODIES[:43]),
        ("Twilio key", "SK" + HEX[:32]),
        ("DigitalOcean token", "dop_v1_" + HEX),
        ("Shopify token", "shpat_" + HEX[:32]),
        ("Telegram bot token", "7254139680:AA" + SECRET_BODIES[:33]),
        ("Azure storage key", "AccountKey=" + SECRET_BODIES + SECRET_BODIES[:31] + "=="),
        ("private key", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n"),
        ("private key", "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkq\\n"),
    ],
)
def test_each_kind_of_secret_is_found_and_its_placeholder_is_not(kind: str, token: str) -> None:
    for text in (token, f"export KEY={token}", f'"{token}",', f"Use {token} now."):
        assert kind in [found for found, _ in find_secrets(text)], text
    if not kind.startswith("private"):
        assert list(find_secrets(token[:12] + "x" * (len(token) - 12))) == []


@pytest.mark.parametrize(
    "text",
    [
        "password = input('Your password: ')",
        'api_key = os.environ["API_KEY"]',
        "token: str = field(default_factory=new_token)",
        "Secret: always salt the water of the pasta.",
        'password="correct-horse-battery"',
        "The key=value pairs of sk-learn and a task-oriented-dialogue-system-benchmark",
        "sk-" + "a" * 40,
        "https://user:password123@host.example/",
        "The PRIMARY KEY is user_id; the foreign key: orders.user_id",
        "eyJhbGciOi.eyJub3Rq.c2lnbmF0dXJlc2ln",
    ],
)
def test_code_and_prose_without_secrets_is_clean(text: str) -> None:
    assert list(find_secrets(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "pi is 3.14159265358979 and e is 2.718281828459045",
        "They sold 4,111,111,111,111,111 of them, or 4111111111111111.5 on average.",
        "Released 2019-05-14, version 10.0.19041.1, build 192.168.1.77",
        "ISBN 978-3-16-148410-0, tracking 1Z999AA10123456784, 2000-2024",
        "File logo@2x.png and the decorator @app.route, or user@localhost",
        "Add 100-200-3000 and 12-34-5678 to (3) 400-500.",
        "GB29 is the start of an IBAN; NL91ABNA0417164301 is one digit off.",
        "At 10:20:30:40:50:60:70 the counter stopped.",
    ],
)
def test_numbers_that_identify_nobody_are_clean(text: str) -> None:
    assert list(find_personal(text)) == []


@pytest.mark.parametrize(
    "text", ["Größe", "naïve café", "déjà vu", "ÅÄÖ åäö", "Привет, мир", "“quotes” – dashes…", "5 €", "😀"]
)
def test_misread_text_is_found_and_the_right_text_is_not(text: str) -> None:
    assert codes_of(text, "Q205") == []
    misread = "".join(
        bytes([byte]).decode("cp1252") if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(byte)
        for byte in text.encode()
    )
    assert codes_of(misread, "Q205") == ["Q205"]
    assert codes_of(text.encode().decode("latin-1"), "Q205") == ["Q205"]


quoted_words = st.tuples(
    st.sampled_from(["«{}»", "“{}”", "‘{}’…", "{}—", "{} §", "{}"]),
    st.text(alphabet="abcÀÉÜÑÇåøéèñç", min_size=1, max_size=9),
)


@given(st.lists(quoted_words, max_size=8))
def test_accented_words_in_quotes_are_not_taken_for_misread(words: list[tuple[str, str]]) -> None:
    assert codes_of(" ".join(frame.format(word) for frame, word in words), "Q205") == []


FRENCH = "Le colis est parti hier et il arrive dans deux jours avec les autres pour vous, mais nous ne sommes pas sûrs."
ENGLISH = "The parcel was sent from the shop and it is on the way to you, with all of the goods that you have bought."


@pytest.mark.parametrize(
    ("language", "text", "is_wrong"),
    [
        ("fr", FRENCH, False),
        ("en", FRENCH, True),
        ("German", ENGLISH, True),
        ("en-US", ENGLISH, False),
        ("zh_CN", "这是一个很好的问题，我们明天再回答您，谢谢您的耐心等待，祝您生活愉快。", False),
        ("zh", "これはとても良い質問ですね。ありがとうございます。またあした、おねがいします。", True),
        ("ru", "Посылка уже в пути, и она придёт завтра вместе с остальными.", False),
        ("ru", ENGLISH, True),
        ("ko", "```python\nprint('hello world, this is only code')\n```", False),
        ("xx", ENGLISH, False),
    ],
)
def test_languages(language: str, text: str, is_wrong: bool) -> None:
    assert (codes_of(text, "Q207", meta={"language": language}) == ["Q207"]) == is_wrong


@pytest.mark.parametrize(
    ("text", "is_cut"),
    [
        ("1. red\n2. green\n3. blue", False),
        ("| a | b |\n|---|---|\n| 1 | 2 |", False),
        ("Use `x[` to open it and then close it again with `]`", False),
        ("~~~\ncode\n~~~", False),
        ("````md\n```python\nprint(1)\n```\n````", False),
        ("````md\n```python\nprint(1)\n```\n", True),
        ("- first:\n  ```sh\n  ls\n  ```\n- second", False),
        ('{"a": "a } in \\" text", "b": [1, 2]}', False),
        ('{"a": 1} and that is the whole of the answer', False),
        ("Dear customer, we have looked into your case and have found that your parcel was sent to an", True),
        ("お荷物は本日発送いたしました。到着までしばらくお待ちいただき、", True),
        ("お荷物は本日発送いたしました。", False),
    ],
)
def test_truncation(text: str, is_cut: bool) -> None:
    assert (codes_of(text, "Q203") == ["Q203"]) == is_cut


@pytest.mark.parametrize(
    "emoji",
    [
        "👨‍👩‍👧‍👦",
        "🏳️‍🌈",
        "👩🏽‍💻",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "✈️",
        "#️⃣",
        "🧑‍⚖️",
        "⛹🏿‍♀️",
        "❤️‍🔥",
        "☎︎",
    ],
)
def test_emoji_are_legal(emoji: str) -> None:
    assert codes_of(f"Look: {emoji} {emoji}{emoji} end", "X703", "X704") == []


@pytest.mark.parametrize(
    "text",
    [
        "\u2066a",
        "a\u200eb",
        "x\u2060",
        "in\u00advisible",
        "a\ufeffb",
        "\u3164",
        "a\u2003b",
        "\U000e0001",
        "a\ufe0fb",
        "\u180e",
        "e\ufe00",
    ],
)
def test_invisible_characters_are_found_in_latin_text(text: str) -> None:
    assert codes_of(text, "X704") == ["X704"]
