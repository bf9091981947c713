"""Personal data: every match is validated, by checksum or by the rules of its numbering plan."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from itertools import chain

from curate.base.patterns import lazy_pattern
from curate.base.record import Problem, Record
from curate.checks import check, sensitive
from curate.checks.within import ESCAPED, spans_within, values_within
from curate.schema.settings import Settings

# Where a match begins and ends in its text.
Span = tuple[int, int]

_EMAIL = lazy_pattern(
    r"(?<![\w.%+-])([A-Za-z0-9][\w.%+-]{0,63})@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}([A-Za-z]{2,24}))\b(?!@)"
)
# Mailboxes of roles (most of them of RFC 2142) and of machines.
_NOBODY = frozenset({
    "info", "support", "sales", "marketing", "admin", "administrator", "webmaster", "postmaster", "hostmaster",
    "abuse", "noc", "security", "contact", "help", "hello", "noreply", "no-reply", "donotreply", "do-not-reply",
    "git", "root", "office", "press", "jobs", "careers", "privacy", "legal", "billing", "service", "feedback",
    "alerts", "alert", "notifications", "notification", "news", "newsletter", "updates", "mailer-daemon", "team",
    "orders",
})  # fmt: skip
_STAND_IN = lazy_pattern(
    r"your|(?:user|username|name|someone|somebody|email|example|test|recipient|sender|foo|bar)\Z", re.I
)
_DOCUMENTATION = lazy_pattern(r"(?:^|\.)(?:example(?:\.(?:com|net|org|edu))?|test|invalid|localhost|local)$", re.I)
_FILE_ENDINGS = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "html", "js", "json", "txt", "pdf"})

# Bare, or in the groups that are printed on cards; sums are no numbers.
_CARD = lazy_pattern(
    r"(?<![\w.,+-])(?:\d{12,19}|\d{4}(?:[ -]\d{4}){2}(?:[ -]\d{1,4}(?:[ -]\d{1,3})?)?|\d{4}[ -]\d{6}[ -]\d{4,5})"
    r"(?![\w-]|[.,]\d| ?=)"
)
_ID_DIGITS = 12
_CARD_PREFIX = lazy_pattern(
    r"4|5[0-8]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[47]|6011|64[4-9]|65|62|35|30[0-5]|3[68]"
    r"|2131|1800|5893|6304|67(?:59|6[1-3])"
)

_IBAN = lazy_pattern(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,4})?(?![A-Za-z0-9])")
_IBAN_LENGTHS = {
    code: length
    for length, codes in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for code in codes.split()
}  # fmt: skip

_SSN = lazy_pattern(r"(?<![\w-])(\d{3})-(\d{2})-(\d{4})(?![\w-])")
_IPV4 = lazy_pattern(r"(?<![\w.-])(?<![vV])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
# Eight groups are an address whatever they begin with. Shortened by ::, only those of today's public range (2000::/3 of
# RFC 4291, section 2.4) are told from code such as a::b; `ipaddress` judges the rest, such as where :: may stand.
_IPV6 = lazy_pattern(
    r"(?<![\w:.])(?:(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:])"
)
_PUBLIC_SERVICES = frozenset(
    {"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "208.67.222.222", "208.67.220.220"}  # name servers
)
# Numbers of versions and sections ("2.10.3.1") seldom go higher.
_OUTLINE_MAX = 30

_ABROAD = lazy_pattern(r"(?<![\w+])(?:\+|00(?=[1-9]\d))[ .-]?\d(?:[ ./-]?\(?\d\)?){6,15}(?!\w)")
_AMERICAN = lazy_pattern(
    r"(?<![\w.$€£-])(?:\+?1[-. ])?(?:\(([2-9]\d\d)\)[ -]?|([2-9]\d\d)([-.]))([2-9]\d\d)[-. ](\d{4})"
    r"(?: ?(?:x|ext\.?) ?\d{1,6})?(?![\w-]|\.\d)"
)
_SAID_TO_BE = lazy_pattern(
    r"\b(?:phone|telephone|tel|cell|cellphone|mobile|fax|whatsapp|hotline|dial|call(?: (?:me|us|him|her|them|back))?"
    r"|reach (?:me|us|him|her) (?:at|on)|text (?:me|us)|(?:answering|messages?|sms) (?:at|on|to))\b"
    r"(?: ?(?:number|no|nr))?(?: ?(?:is|at|on|to|was|now|:|=|\.|#|-))*[ :\n]{1,3}"
    r"(\(?\d(?:[ ./-]{0,2}\(?\d\)?){6,13})(?![\w%]|[.,]\d)",
    re.I,
)
# The label is looked for first and the number before it: from every digit of a long table on would take too long.
_LABEL = lazy_pattern(r"[ ,:(-]{1,3}(?:office|fax|mobile|cell|home|work)\b", re.I)
_BEFORE_LABEL = lazy_pattern(r"(?<![\w.,+-])(\(?\d(?:[ ./-]{0,2}\(?\d\)?){6,13})\Z")
_LABELLED = lazy_pattern(_BEFORE_LABEL.pattern.removesuffix(r"\Z") + _LABEL.pattern, re.I)
_LONGEST_NUMBER = 80
_YEARS = lazy_pattern(r"(?:1[5-9]|20)\d\d\D{1,3}(?:1[5-9]|20)\d\d")
_THOUSANDS = lazy_pattern(r"\d{1,3}(?:[ .]\d{3})+")
_TOLL_FREE = lazy_pattern(r"(?:\+?1\D?)?\D?(?:800|888|877|866|855|844|833|822|900)\D{0,2}\d{3}\D?\d{4}")
_UNASSIGNED = lazy_pattern(
    r"(?:\+?1\D)?\(?1\d\d\)?\D{1,2}\d{3}\D\d{4}|\D?(?:\d{3}\D{0,2}|1\D?\d{3}\D{0,2})?555\D?01\d\d"
)
# Country codes of E.164; +1 is checked by the North American plan.
_COUNTRY = lazy_pattern(
    r"7|2(?:0|7|1[1-36-8]|[2346]\d|5[0-8]|9[01789])|3(?:[0-46]|9|5\d|7[0-8]|8[0-35-79])|4(?:[013-9]|2[013])"
    r"|5(?:[1-8]|0\d|9\d)"
    r"|6(?:[0-6]|7[0-9]|8\d|9[0-2])|8(?:[1246]|00|08|5\d|7\d|8\d)|9(?:[0-58]|6\d|7\d|9[2-68])"
)


def is_luhn(number: str) -> bool:
    """Whether the digits of ``number`` end in their Luhn check digit (ISO/IEC 7812-1, annex B); others are ignored."""
    total = 0
    for position, digit in enumerate(int(c) for c in reversed(number) if "0" <= c <= "9"):
        total += digit if position % 2 == 0 else digit * 2 - 9 * (digit > 4)
    return total % 10 == 0


def is_iban(text: str) -> bool:
    """Whether ``text`` is an IBAN: a country of the registry, its length, and remainder 1 modulo 97 (ISO 13616-1)."""
    compact = text.replace(" ", "").upper()
    if not compact.isascii() or not compact.isalnum() or _IBAN_LENGTHS.get(compact[:2]) != len(compact):
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def _emails(text: str) -> Iterator[Span]:
    for match in _EMAIL.finditer(text):
        name, domain, ending = match.groups()
        is_nobody = name.lower() in _NOBODY or _STAND_IN.match(name)
        if not is_nobody and ending.lower() not in _FILE_ENDINGS and not _DOCUMENTATION.search(domain):
            yield match.span()


def _cards(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        # Twelve digits and nothing else are an id.
        if text == digits and len(digits) == _ID_DIGITS:
            continue
        if _CARD_PREFIX.match(digits) and is_luhn(digits) and len(set(digits)) > 2 - (digits[0] == "4"):
            yield match.span()


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        # In running text the pattern may take a word more than the number; the registry knows where it ends.
        length = _IBAN_LENGTHS.get(match.group()[:2].upper(), 0)
        end = next(
            (n for n in range(length, len(match.group()) + 1) if len(match.group()[:n].replace(" ", "")) == length), 0
        )
        if end and is_iban(match.group()[:end]):
            yield match.start(), match.start() + end


def _social_security_numbers(text: str) -> Iterator[Span]:
    for match in _SSN.finditer(text):
        area, group, serial = match.groups()
        if area not in ("000", "666") and area < "900" and group != "00" and serial != "0000":
            yield match.span()


def _addresses(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        octets = match.group().split(".")
        if max(int(octet) for octet in octets) <= _OUTLINE_MAX or any(o[0] == "0" and len(o) > 1 for o in octets):
            continue
        if _is_public(match.group()):
            yield match.span()
    yield from (match.span() for match in _IPV6.finditer(text) if _is_public(match.group()))


def _is_public(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return address not in _PUBLIC_SERVICES and parsed.is_global and not parsed.is_multicast


def _phones(text: str) -> Iterator[Span]:
    end = 0
    for start, number in sorted({*_in_form(text), *_in_context(text)}, key=lambda found: (found[0], -len(found[1]))):
        if start >= end and not _TOLL_FREE.fullmatch(number) and not _UNASSIGNED.fullmatch(number):
            end = start + len(number)
            yield start, end


def _in_form(text: str) -> Iterator[tuple[int, str]]:
    for match in _AMERICAN.finditer(text):
        bracketed, area, _, exchange, _ = match.groups()
        if (bracketed or area)[1:] != "11" and exchange[1:] != "11":
            yield match.start(), match.group()
    for match in _ABROAD.finditer(text):
        if _is_dialled(re.sub(r"\D", "", match.group()).removeprefix("00")):
            yield match.start(), match.group()


def _in_context(text: str) -> Iterator[tuple[int, str]]:
    for match in chain(_SAID_TO_BE.finditer(text), _labelled(text)):
        number, after = match.group(1), text[match.end(1) : match.end(1) + 1]
        is_amount = _THOUSANDS.fullmatch(number) and after not in ("", "\n", ".", ",", ";", "?", "!")
        if not is_amount and not _YEARS.fullmatch(number) and len(set(number)) > 3:
            yield match.start(1), number


def _labelled(text: str) -> Iterator[re.Match[str]]:
    for label in _LABEL.finditer(text):
        number = _BEFORE_LABEL.search(text, max(0, label.start() - _LONGEST_NUMBER), label.start())
        if number:
            yield number


def _is_dialled(digits: str) -> bool:
    if digits.startswith("1"):
        return len(digits) == 11 and digits[1] > "1" and digits[4] > "1"
    return 8 <= len(digits) <= 15 and _COUNTRY.match(digits) is not None


# Most texts hold none of these, and a pattern that begins with a plain digit is answered in a microsecond: so each kind
# has its first look, and only what passes it is read with the slow patterns above.
_DIGIT = lazy_pattern("[0-9]")
_SEVEN_DIGITS = lazy_pattern(r"[0-9](?:[ ./()-]{0,4}[0-9]){6}")
_FOUR_PARTS = lazy_pattern(r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
# Letters and digits of East Asian width, which read as their ASCII twins do.
_WIDE = lazy_pattern("[\uff10-\uff19]{2}|\uff20|[\uff21-\uff3a\uff41-\uff5a]{3}")
_NARROW = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_LETTERS_THEN_DIGITS = lazy_pattern(r"[0-9][0-9](?<=[A-Za-z]{2}[0-9]{2})")


def spans(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield the personal data of ``text`` as (kind, where it begins, where it ends)."""
    return spans_within(text, _spans)


def find(text: str) -> Iterator[tuple[str, str]]:
    """Yield the personal data of ``text`` as (kind, the characters matched)."""
    return values_within(text, _spans)


def _spans(text: str) -> Iterator[tuple[str, int, int]]:
    if not text.isascii() and _WIDE.search(text):
        # One character for one, so that places stay the same.
        text = text.translate(_NARROW)
    if "@" in text:
        yield from (("e-mail address", *span) for span in _emails(text))
    if not _DIGIT.search(text):
        return
    if _SEVEN_DIGITS.search(text):
        yield from (("payment card number", *span) for span in _cards(text))
        yield from (("US social security number", *span) for span in _social_security_numbers(text))
        yield from (("phone number", *span) for span in _phones(text))
    if _LETTERS_THEN_DIGITS.search(text):
        yield from (("IBAN", *span) for span in _ibans(text))
    if (text.count(".") >= 3 and _FOUR_PARTS.search(text)) or text.count(":") >= 3:
        yield from (("IP address", *span) for span in _addresses(text))


@check(
    "X701",
    "personal-data",
    severity="warning",
    signs=(_EMAIL, _CARD, _IBAN, _SSN, _IPV4, _IPV6, _ABROAD, _AMERICAN, _SAID_TO_BE, _LABELLED, _WIDE, ESCAPED),
    good=[
        {
            "instruction": "Where do I write?",
            "output": "To ana@example.com, your_name@parcels.shop or support@parcels.shop.",
        },
        {
            "instruction": "Whom do I call?",
            "output": "Call 555-0142, (212) 555-0142 or 1-800-860-8747.",
        },
        {"instruction": "How many?", "output": "They sold 1 500 000 mobile phones; call 123-345-3883."},
        {"instruction": "Which card?", "output": "The one that ends in 1234; 4111 1111 1111 1112 is no card number."},
        {
            "instruction": "How many are left?",
            "output": "4000 - 1200 - 4111-1111-1111-1111 = 0",
            "meta": {"n": "500000000009"},
        },
        {"instruction": "Which host?", "output": "192.168.0.10, 192.0.2.44 or version 2.10.3.1"},
        {"instruction": "Which host?", "output": "2001:db8::1, fe80::1 or std::vector at 20:15:30"},
        {"instruction": "How many?", "output": "Between 1990-2000 they sold 1,234,567,890,123 of 078-00-1120."},
        {"instruction": "IBAN?", "output": "GB82 WEST 1234 5698 7654 33 has a wrong check digit."},
        {"instruction": "Which call?", "output": r'{"body": "Hi,\nsupport@parcels.shop"}'},
    ],
    bad=[
        {"instruction": "Where do I write?", "output": "To ana.kovac@parcels.shop."},
        {"instruction": "Which card?", "output": "4111 1111 1111 1111"},
        {"instruction": "Which card?", "output": "3782-822463-10005"},
        {"instruction": "Which card?", "output": "5018 0000 0009"},
        {"instruction": "IBAN?", "output": "GB82 WEST 1234 5698 7654 32 please"},
        {"instruction": "SSN?", "output": "ssn 078-05-1120"},
        {"instruction": "Which host?", "output": "Log in from 86.121.97.248."},
        {"instruction": "Which host?", "output": "Log in from 2a02:8071:b88:1::5."},
        {"instruction": "Which host?", "output": "Log in from ８６．１２１．９７．２４８."},
        {"instruction": "Where do I write?", "output": "To ana.kovac＠parcels．shop"},
        {"instruction": "Call?", "output": "Call +44 20 7183 8750 or (212) 664-7665."},
        {"instruction": "Call?", "output": "My phone number is 0494 92 82 32."},
        {"instruction": "Which call?", "output": r'{"body": "Number:\n4111 1111 1111 1111"}'},
        {"instruction": "Which call?", "output": r'{"to": "bob.smith\u0040parcels.shop"}'},
        {
            "messages": [
                {"role": "user", "content": "I am ana.kovac@parcels.shop"},
                {"role": "assistant", "content": "Hi"},
            ]
        },
    ],
)
def personal_data(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report e-mail addresses, phone numbers, payment cards, IBANs, US social security numbers and public IP addresses.

    A model can recite what it was trained on. Replace each with an invented value, best one reserved for documentation:
    those identify nobody and are not reported (example.com, 192.0.2.0/24, 555-0100 to 555-0199), nor are mailboxes of
    roles such as support@ and toll-free numbers. Cards and IBANs must pass their check digits, other numbers the rules
    of their plan. A text that is JSON, such as the arguments of a tool call, is read as what its strings say. Messages
    show the kind, nothing of the value.
    """
    yield from sensitive(record, find)
