"""Lines with every kind of fault, and what validation prints of them, read as the reader of each format does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from tests.promises.outside import Row, curate, rows_on

Place = tuple[str, str, int, str]
"""Code, file, line and record of a finding."""

SECRET = "ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
SCHEMAS = Path(__file__).resolve().parent.parent.parent / "schemas"
PHONE = "+41 44 668 18 00"


def faulty_lines() -> list[str]:
    """Return forty good lines, and after them lines with every kind of finding: on bytes, records, pairs, the whole."""
    good = rows_on("alpha", 40)

    def row(name: str, said: str, answer: Any = "", **more: Any) -> Row:
        return {"id": name, "instruction": said, "output": answer, "category": "alpha", **more}

    bad = [
        row("empty", "Say something new about lamps now."),
        row("empty too", "Ünïcödé 漢字 asks for something else."),
        row("é", "What is the number of this line?", 7),
        row("secret", f"Call me at {PHONE} tomorrow.", f"The key is {SECRET} as you know."),
        {**good[3], "id": "copy"},
        good[4],
        row("rare", "Is this one alone in its category?", "It is, as far as one knows.", category="beta"),
    ]
    broken = ["{broken", '{"id": "twice", "instruction": "A", "output": "b", "output": "c"}', ""]
    return [json.dumps(one, ensure_ascii=False) for one in good + bad] + broken


def write_lines(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def verdict(*words: object, **options: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(curate("validate", *words, "--format", "json", **options).stdout)
    return told


def codes(told: dict[str, Any]) -> list[tuple[str, int]]:
    """Return codes and lines of the findings about lines; a thin category, say, is about none."""
    return [(finding["code"], finding["line"]) for finding in told["findings"] if finding["line"]]


def record_in(message: str) -> str:
    found = re.search(r"\(record (.*?)(?:, at /\S*)?\)$", message.split("\n", maxsplit=1)[0])
    return found[1] if found else ""


def unescaped(text: str) -> str:
    for escape, character in {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%"}.items():
        text = text.replace(escape, character)
    return text


def orders_in(text: str) -> list[tuple[str, dict[str, str], str]]:
    """Return what GitHub's runner takes for orders in a log: lines of two colons, and the older brackets anywhere."""
    orders = []
    for line in text.splitlines():
        if match := re.match(r"\s*::([a-z-]+)(?: (.*?))?::(.*)", line):
            pairs = dict(pair.split("=", 1) for pair in (match[2] or "").split(",") if pair)
            orders.append((match[1], {key: unescaped(value) for key, value in pairs.items()}, unescaped(match[3])))
        orders += [(name, {}, "") for name in re.findall(r"##(?:vso)?\[(\w+)", line)]
    return orders


def read_github(text: str) -> list[Place]:
    return [
        (place["title"].split()[0], place.get("file", ""), int(place.get("line", 0)), record_in(message))
        for _, place, message in orders_in(text)
        if place["title"] != "curate validate"
    ]


def read_gitlab(text: str) -> list[Place]:
    return [
        (issue["check_name"], issue["location"]["path"], issue["location"]["lines"]["begin"],
         record_in(issue["description"]))
        for issue in json.loads(text)
    ]  # fmt: skip


def read_sarif(text: str) -> list[Place]:
    places = []
    for result in json.loads(text)["runs"][0]["results"]:
        (location,) = result["locations"]
        where = location["physicalLocation"]
        name = unquote(where["artifactLocation"]["uri"])
        places.append((result["ruleId"], name, where["region"]["startLine"], record_in(result["message"]["text"])))
    return places


def read_junit(text: str) -> list[Place]:
    places = []
    for case in ElementTree.fromstring(text).iter("testcase"):
        name = case.get("classname", "").replace("all files", "")
        for line in "".join(case.itertext()).splitlines():
            if found := re.match(r"\s+(?:line (\d+)(?:, byte \d+)?: )?(error|warning|info): ", line):
                places.append((case.get("name", "").split()[0], name, int(found[1] or 0), record_in(line)))
    return places


def read_markdown(text: str) -> list[Place]:
    cell = re.compile(r"\| \w+ \| (\w+) [\w-]+ \| `(.*?)(?::(\d+):\d+)?`(?: record `(.*?)`)?(?: at `.*?`)? \|")
    rows = [found for line in text.splitlines() if (found := cell.match(line))]
    return [(row[1], row[2].replace("(all files)", ""), int(row[3] or 0), row[4] or "") for row in rows]


def read_concise(text: str) -> list[Place]:
    line = re.compile(r"(.*?)(?::(\d+):\d+)?: (?:error|warning|info) (\w+) [\w-]+: .*?(?: \[(.*)\])?$")
    found = [match for said in text.splitlines() if (match := line.match(said))]
    return [(one[3], one[1].replace("(all files)", ""), int(one[2] or 0), one[4] or "") for one in found]


def read_text(text: str) -> list[Place]:
    places: list[Place] = []
    for line in text.splitlines():
        if found := re.match(r"(\S.*?)(?::(\d+):\d+)?: \w+\[(\w+) [\w-]+\]: ", line):
            places.append((found[3], found[1].replace("(all files)", ""), int(found[2] or 0), ""))
        elif found := re.match(r"  = record (.*?)(?:, at /.*)?$", line):
            places[-1] = (*places[-1][:3], found[1])
    return places


def of_findings(findings: list[dict[str, Any]]) -> list[Place]:
    return [(one["code"], one["file"], one["line"], one["record"]) for one in findings]


READERS: dict[str, Callable[[str], list[Place]]] = {
    "concise": read_concise,
    "github": read_github,
    "gitlab": read_gitlab,
    "jsonl": lambda text: of_findings([json.loads(line) for line in text.splitlines()]),
    "junit": read_junit,
    "markdown": read_markdown,
    "sarif": read_sarif,
    "text": read_text,
}
