# SPDX-License-Identifier: Apache-2.0
"""Write `messy.jsonl`, a file of planted defects, and `messy.md`, the list of what a validator should say to each line.

    python samples/make_messy.py [FOLDER]

The sound lines are the first records of `support_desk.jsonl`. All persons, numbers and keys are invented: published
test numbers of cards and IBANs, telephone numbers reserved for films, keys typed at random.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

from make_support_desk import make_records

BOM = b"\xef\xbb\xbf"


class Planted(NamedTuple):
    """One line: its bytes without the line end, its record id, the expected codes, and what was planted."""

    raw: bytes
    id: str
    codes: tuple[str, ...]
    story: str
    end: bytes = b"\n"


def record(number: int, prompt: str, output: str, category: str = "answer", text: str = "") -> dict[str, str]:
    """A record of the instruction shape."""
    return {"id": f"messy-{number:02d}", "instruction": prompt, "input": text, "output": output, "category": category}


def line(value: object) -> bytes:
    """One JSON line as UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode()


def fields(
    prompt: str, output: str, codes: str, story: str, category: str = "answer", text: str = ""
) -> tuple[str, ...]:
    """A defect that sits in the text of an otherwise well-formed record."""
    return prompt, output, codes, story, category, text


TEXT_DEFECTS: tuple[tuple[str, ...], ...] = (
    fields("Summarise the ticket in one sentence.", "", "Q201", "The answer is an empty string.", "summarise",
        "The fan of Olga is loud."),
    fields("Give the opening hour of the Riga shop.", "  \t ", "Q201", "The answer is white space."),
    fields("Who runs the desk on Friday?", "\u200b", "Q201 X704", "The answer is one zero-width space.",
        text="Friday: Hugo."),
    fields("Write a polite redirect for a tax question.", "Write a polite redirect for a tax question.", "Q202",
        "The answer repeats the prompt.", "redirect"),
    fields("Shorten the ticket of Vera about the oven.", "shorten the ticket  of Vera about the oven.", "Q202",
        "The same with other case and spacing.", "summarise"),
    fields("Explain why the tent of Karim is late.",
        "The tent left Bergen on Monday but the driver had to stop at the border because the", "Q203",
        "The answer stops in the middle of a sentence."),
    fields("Extract order and item as JSON.", '{"order": "40417", "item": "gold', "Q203",
        "The answer is JSON that was cut off.", "extract", "Order 40417, a gold lamp."),
    fields("Turn the note into formal English.", "It doesnâ€™t fit, and the cafÃ© table wobbles.", "Q205",
        "UTF-8 that was once read as Windows-1252.", "rewrite", "it doesn't fit, table wobbles"),
    fields("Which town does the ferry serve?", "The ferry goes to Malm\ufffd.", "Q205",
        "A replacement character stands for a lost letter."),
    fields("How do I clean the kettle?", "I'm sorry, but I can't help with that request.", "Q206",
        "A refusal in a category that has to answer."),
    fields("Which colour suits the sofa?", "As an AI language model, I do not have taste.", "Q206",
        "The answer speaks of itself as a language model."),
    fields("Route this: the invoice is wrong.", "billing", "L404", "The category is misspelled.", "clasify"),
    fields("Where can I write to the baker?", "Write to odd.mara@post.fictional and wait.", "X701",
        "An e-mail address of a person (the domain cannot exist)."),
    fields("How do I reach Petra?", "Call her at +44 20 7946 0958 after noon.", "X701",
        "A telephone number, from the range reserved for films."),
    fields("Which card was charged?", "The card 4111 1111 1111 1111 was charged.", "X701",
        "A card number that passes the Luhn check (a published test number)."),
    fields("Where should the refund go?", "Send it to GB82 WEST 1234 5698 7654 32.", "X701",
        "An IBAN with valid check digits (the textbook example)."),
    fields("What does the form ask for?", "It asks for 078-05-1120, name and date.", "X701",
        "A US social security number (voided after it was printed on sample cards)."),
    fields("How do I log in to the store?", "Use AKIA2QWERZ7SAMP4LE9Q as the key id.", "X702",
        "An AWS access key id by its prefix."),
    fields("Which token does the robot use?", "It uses ghp_Qm7Zt2Lx9Wk4Rb8Vn3Cj6Hs1Fd5Gp0Ya2TeU now.", "X702",
        "A GitHub token by its prefix."),
    fields("What is in the settings file?", 'password = "vR8!tLq35zWn"', "X702",
        "An assigned password of high entropy."),
    fields("Read the label of the box.", "The label says fragile\u0007 and heavy.", "X703",
        "A bell character inside the answer."),
    fields("Read the note on the door.", "Back at nine.\u001b[2J Ring twice.", "X703",
        "A terminal escape sequence inside the answer."),
    fields("Is the account of Ines active?", "It is \u202enot\u202c active.", "X704",
        "A right-to-left override turns a word around."),
    fields("Which plan has Tomas?", "The pre\u200bmium plan.", "X704", "A zero-width space hides inside a word."),
    fields("What does the chat log say?", "Thank you.<|im_end|>\n<|im_start|>user\nMore, please.", "X705",
        "Chat control tokens stand in the answer."),
    fields("Finish the letter to Boris.", "The parcel is on its way.</s>", "X705",
        "An end-of-text token was left in the answer."),
)  # fmt: skip


def broken_lines(first: int) -> list[Planted]:
    """Lines that are not well-formed records; their ids count on from `first`."""

    def numbered(offset: int) -> str:
        return f"messy-{first + offset:02d}"

    whole = [line(record(first + n, f"Which shelf holds box {n}?", f"Shelf {n + 3}.")).decode() for n in range(12)]
    return [
        Planted(whole[0].replace('"input"', "'input'").encode(), "", ("S101",), "A key in single quotes is not JSON."),
        Planted((whole[1] + " // checked").encode(), "", ("S101",), "A comment stands behind the record."),
        Planted(whole[2][:-14].encode(), "", ("S111",), "The line breaks off inside its last value."),
        Planted(whole[3].replace('"output"', '"output": "Shelf 9.", "output"').encode(), "", ("S105",),
            "The key output occurs twice."),
        Planted(whole[4].replace("}", ', "meta": {"score": NaN}}').encode(), "", ("S106",), "NaN is no JSON number."),
        Planted(whole[5].replace("Shelf", "Gro\u00dfes Regal").encode("latin-1"), "", ("S103",),
            "A Latin-1 byte in a UTF-8 file."),
        Planted(whole[6].replace("Shelf", "\\ud83d Shelf").encode(), "", ("S108",),
            "Half of an emoji, written as an escape."),
        Planted(f"[{whole[7]}]".encode(), "", ("S112",), "The record is wrapped in a list."),
        Planted(line({k: v for k, v in json.loads(whole[8]).items() if k != "output"}), numbered(8), ("S102",),
            "The key output is missing."),
        Planted(whole[9].replace('"Shelf 12."', "12").encode(), numbered(9), ("S102",),
            "The answer is a number where text is due."),
        Planted(whole[10].replace('"category"', '"catgory"').encode(), numbered(10), ("S102",),
            "A misspelled key that the schema does not know."),
        Planted(b"", "", ("S120",), "A blank line."),
        Planted(whole[11].encode(), numbered(11), ("S119",), "The line ends in CR LF.", b"\r\n"),
    ]  # fmt: skip


def repeats(first: int, sound: list[dict[str, str]]) -> list[Planted]:
    """Records that repeat an earlier, sound record."""
    again, other, copy = dict(sound[1]), dict(sound[3]), dict(sound[0])
    again["instruction"] = "Say in which queue this belongs."
    again["input"] = "The lid of my teapot came off."
    again["output"] = "device"
    copy["id"], other["id"] = f"messy-{first:02d}", f"messy-{first + 1:02d}"
    other["output"] = "nobody knows"
    return [
        Planted(
            line(again), again["id"], ("S104",), f"The id {again['id']} is used a second time, for another record."
        ),
        Planted(line(copy), copy["id"], ("D301",), f"The same content as {sound[0]['id']} under another id."),
        Planted(line(other), other["id"], ("D303",), f"The prompt of {sound[3]['id']} with another answer."),
    ]


def make_lines() -> list[Planted]:
    """The whole file in order: sound records stand between the defects."""
    sound = make_records(per_category=2)
    defects = [
        Planted(line(record(n, prompt, output, category, text)), f"messy-{n:02d}", tuple(codes.split()), story)
        for n, (prompt, output, codes, story, category, text) in enumerate(TEXT_DEFECTS, 1)
    ]
    defects += broken_lines(len(defects) + 1)
    defects += repeats(len(defects) + 1, sound)
    clean = [Planted(line(value), value["id"], (), "") for value in sound]
    lines = clean[:6]
    for position, defect in enumerate(defects):
        lines.append(defect)
        if position % 7 == 6 and len(clean) > 6 + position // 7:
            lines.append(clean[6 + position // 7])
    first = lines[0]
    return [
        first._replace(raw=BOM + first.raw, codes=("S118",), story="The file begins with a byte order mark."),
        *lines[1:],
    ]


def table(lines: list[Planted]) -> str:
    """The Markdown table of planted defects, one row a line and code."""
    rows = [
        f"| {number} | {planted.id or '-'} | {code} | {planted.story} |"
        for number, planted in enumerate(lines, 1)
        for code in planted.codes
    ]
    head = [
        "# What is wrong in messy.jsonl", "",
        "Written by `make_messy.py`. Lines that are not listed are sound. A dash: the line cannot be read as a record.",
        "With the six categories of the sample in `curate.toml`, P502 also says that each category has few records.",
        "",
        "| line | record | code | planted |", "|---:|---|---|---|",
    ]  # fmt: skip
    return "\n".join(head + rows) + "\n"


def main() -> None:
    """Write both files beside this script, or into the folder given."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    lines = make_lines()
    (folder / "messy.jsonl").write_bytes(b"".join(planted.raw + planted.end for planted in lines))
    (folder / "messy.md").write_text(table(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
