"""Secrets: keys of known services by their prefix, private keys, tokens, and passwords that are assigned in code."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections import Counter
from collections.abc import Iterator

from curate.base.patterns import lazy_pattern
from curate.base.record import Problem, Record
from curate.checks import check, sensitive
from curate.checks.within import ESCAPED, spans_within, values_within
from curate.schema.settings import Settings

_EDGE = r"(?<![A-Za-z0-9_])"
# Kind, the marks of which one must be in the text for the pattern to be tried, the pattern (with MARK for the mark);
# group 1 is the secret.
_KEYS: tuple[tuple[str, str, re.Pattern[str]], ...] = tuple(
    (kind, mark, lazy_pattern(pattern.replace("MARK", mark)))
    for kind, marks, pattern in (
        ("AWS access key id", "AKIA ASIA ABIA ACCA", _EDGE + r"(MARK[A-Z0-9]{16})(?![A-Za-z0-9])"),
        ("GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", _EDGE + r"(MARK[A-Za-z0-9]{36,255})"),
        ("GitHub fine-grained token", "github_pat_", _EDGE + r"(github_pat_[A-Za-z0-9_]{22,255})"),
        ("GitLab token", "glpat-", _EDGE + r"(glpat-[\w-]{20,64})"),
        ("Stripe key", "k_live_ k_test_", _EDGE + r"([srp]MARK[A-Za-z0-9]{16,255})"),
        ("API key of a model vendor", "sk-", _EDGE + r"(sk-(?:ant-|proj-|svcacct-|or-v1-)?[A-Za-z0-9_-]{20,255})"),
        ("Slack token", "xox", _EDGE + r"(xox[abeoprs]-[A-Za-z0-9-]{10,255})"),
        ("Slack webhook", "hooks.slack.com", r"hooks\.slack\.com/services/(T\w{6,}/B\w{6,}/\w{16,})"),
        ("Google API key", "AIza", _EDGE + r"(AIza[\w-]{35})(?![\w-])"),
        ("Google OAuth token", "ya29", _EDGE + r"(ya29\.[\w-]{20,255})"),
        ("Google OAuth secret", "GOCSPX-", _EDGE + r"(GOCSPX-[\w-]{28})"),
        ("Hugging Face token", "hf_", _EDGE + r"(hf_[A-Za-z0-9]{30,64})"),
        ("npm token", "npm_", _EDGE + r"(npm_[A-Za-z0-9]{36})"),
        ("PyPI token", "pypi-", _EDGE + r"(pypi-[A-Za-z0-9_-]{50,255})"),
        ("SendGrid key", "SG.", _EDGE + r"(SG\.[\w-]{16,32}\.[\w-]{16,64})"),
        ("Twilio key", "SK", _EDGE + r"(SK[0-9a-f]{32})(?![0-9a-f])"),
        ("DigitalOcean token", "_v1_", _EDGE + r"(do[opr]_v1_[0-9a-f]{64})"),
        ("Shopify token", "shp", _EDGE + r"(shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32})"),
        ("Telegram bot token", ":AA", r"(?<![\w:])(\d{8,10}:AA[\w-]{33})(?![\w-])"),
        ("Azure storage key", "AccountKey=", r"AccountKey=([A-Za-z0-9+/]{60,90}={0,2})"),
        ("password in an address", "://", r"[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,64}:([^\s:/@]{6,128})@[\w.-]+"),
    )
    for mark in marks.split()
)
_AWS_SECRET = lazy_pattern(r"(?<![A-Za-z0-9/+=])([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])")
_PRIVATE_KEY = lazy_pattern(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,2}PRIVATE KEY(?: BLOCK)?-----(?:\\r|\\n|[\s>|\"'+])+[A-Za-z0-9+/:=-]{4,}"
)
_JWT = lazy_pattern(r"(?<![\w-])(eyJ[\w-]{8,512}\.eyJ[\w-]{8,8192}\.[\w-]{16,2048})")
_ASSIGNED = lazy_pattern(
    r"(?:password|passwd|passphrase|secret|token|(?:api|access|auth|private)[_-]?key)[\"']?[ \t]{0,4}"
    r"(?::=|=>|[:=])[ \t]{0,4}"
    r"(?:\"([^\"\s]{10,128})\"|'([^'\s]{10,128})'|([^\s\"'`,;<>(){}\[\]]{12,128})(?=\s|\Z))",
    re.I,
)
# The same in short, for text in lower case: without re.I a search is many times faster.
_MAY_ASSIGN = lazy_pattern(r"(?:passw|passp|secret|token|key)[a-z]*[\"']?[ \t]*[:=]")
_PLACEHOLDER = lazy_pattern(
    r"your|my[_-]?(?:pass|secret|key|token|api)|change[_-]?me|placeholder|dummy|sample|redacted|insert|replace|enter|todo|x{4,}|\*{3,}|\.{3,}"
    r"|<|\$\{|\{\{|%\(|password|qwerty|foobar"
    r"|\A\[[A-Z]+_[0-9]+\]\Z",  # what `curate redact` leaves
    re.I,
)
# Nobody types a counted-out placeholder of this length, and a script that makes up keys does.
_SEQUENCE = lazy_pattern(r"(?:0?123456789?|abcdef(?:gh)?){2}", re.I)
_LONGEST_SEQUENCE = 40
_NAME = lazy_pattern(r"\A[A-Za-z_][a-z_]*(?:[._-][A-Za-z_]+)*\Z|://|\A[./~]")
_MIN_BITS = 3.0


def entropy(text: str) -> float:
    """Return the Shannon entropy of the characters of ``text``, in bits a character; 0 for no text."""
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts)


def spans(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield the secrets of ``text`` as (kind, where it begins, where it ends)."""
    return spans_within(text, _spans)


def find(text: str) -> Iterator[tuple[str, str]]:
    """Yield the secrets of ``text`` as (kind, the secret)."""
    return values_within(text, _spans)


def _spans(text: str) -> Iterator[tuple[str, int, int]]:
    has_aws_id = False
    for kind, mark, pattern in _KEYS:
        if mark in text:
            for match in pattern.finditer(text):
                if _is_random(match.group(1)) and (mark != "://" or _num_classes(match.group(1)) >= 3):
                    has_aws_id = has_aws_id or kind.startswith("AWS")
                    yield kind, *match.span(1)
    if has_aws_id:
        matches = (match for match in _AWS_SECRET.finditer(text) if _num_classes(match.group(1)) >= 3)
        yield from (("AWS secret key", *match.span(1)) for match in matches)
    if "PRIVATE KEY" in text:
        yield from (("private key", *match.span()) for match in _PRIVATE_KEY.finditer(text))
    if "eyJ" in text:
        tokens = (match for match in _JWT.finditer(text) if _is_jwt_header(match.group(1)))
        yield from (("JSON web token", *match.span(1)) for match in tokens)
    if ":" in text or "=" in text:
        lower = text.lower()
        if _MAY_ASSIGN.search(lower):
            yield from _assigned(text)


def _assigned(text: str) -> Iterator[tuple[str, int, int]]:
    for match in _ASSIGNED.finditer(text):
        number = next(number for number, group in enumerate(match.groups(), start=1) if group)
        value = match.group(number)
        if _num_classes(value) >= 3 and not _NAME.search(value) and _is_random(value):
            yield "password or key", *match.span(number)


def _is_random(value: str) -> bool:
    body = re.split(r"[_-]", value, maxsplit=1)[-1] if value[:1].isalpha() else value
    if _PLACEHOLDER.search(value) or (len(body) < _LONGEST_SEQUENCE and _SEQUENCE.search(value)):
        return False
    return entropy(body or value) >= min(_MIN_BITS, math.log2(max(2, len(body))) - 0.5)


def _num_classes(value: str) -> int:
    return sum(
        any(test(c) for c in value) for test in (str.islower, str.isupper, str.isdigit, lambda c: not c.isalnum())
    )


def _is_jwt_header(token: str) -> bool:
    head = token.split(".", 1)[0]
    try:
        value = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, ValueError):
        return False
    return isinstance(value, dict) and "alg" in value


@check(
    "X702",
    "secret",
    severity="error",
    signs=(*(pattern for _, _, pattern in _KEYS), _PRIVATE_KEY, _JWT, _ASSIGNED, ESCAPED),
    good=[
        {"instruction": "Log in.", "output": 'Set api_key = "YOUR_API_KEY_HERE" and password = getpass.getpass().'},
        {"instruction": "Token?", "output": "sk-proj-1234567890123456789012"},
        {"instruction": "Token?", "output": "hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},
        {
            "instruction": "PEM?",
            "output": "A key file begins with -----BEGIN RSA PRIVATE KEY----- and then lines of text.",
        },
        {"instruction": "Connect.", "output": "postgres://user:password@localhost/db and token: <your token>"},
        {
            "instruction": "Connect.",
            "output": "postgres://postgres:postgres@localhost/db, secret = os.environ['API_SECRET_2']",
        },
    ],
    bad=[
        {"instruction": "Log in.", "output": "AKIAIOSFODNN7EXAMPLE / wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"},
        {"instruction": "Token?", "output": "export GITHUB_TOKEN=ghp_" + "9fK2mQ7xTb4LwZ1vN8cR5yH3sD6gJ0pA2eUi"},
        {"instruction": "PEM?", "output": "-----BEGIN RSA PRIVATE KEY-----\nMIIfake\n-----END RSA PRIVATE KEY-----"},
        {"instruction": "Config?", "output": 'password = "tR7!kQz29bLm"'},
        {"instruction": "Config?", "output": "DB_PASSWORD=tR7kQz29bLm4Xw"},
        {"instruction": "Connect.", "output": "postgres://app:tR7kQz29bLm4Xw@db.parcels.shop/orders"},
        {
            "instruction": "JWT?",
            "output": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVPmB92K27uhbUJU1p1rwW1gFWFOEjXk",
        },
        {"instruction": "Which call?", "output": r'{"body": "Key:\nAKIAIOSFODNN7EXAMPLE"}'},
        {"instruction": "Which call?", "output": r'{"body": "password = \"tR7!kQz29bLm\""}'},
        {"instruction": "Key?", "output": "Use sk-proj-" + "0123456789" * 6},
        {"instruction": "Key?", "output": "Use AIza" + "SyD3k9Qw7Zx2Vb5Nm8Lp1Rt4Ys6Ua0Hc_Gf"},
    ],
)
def secret(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report keys, tokens, private keys and assigned passwords.

    Whoever gets the data, or a model trained on it, gets the key. Revoke it where it was issued, then replace it by a
    placeholder such as <API_KEY>. Known prefixes are matched with their length; entropy and a list of words tell
    placeholders apart. Messages show the kind, nothing of the value.
    """
    yield from sensitive(record, find)
