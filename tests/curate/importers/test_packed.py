"""Packed files, tables of Excel, Arrow, documents and other encodings; what is hostile is refused within bounds."""

from __future__ import annotations

import gc
import gzip
import io
import json
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from curate.base.record import CurateError, Exit
from curate.cli.init import command
from curate.formats.importers import container_of

PAIR = b'{"question": "Say hi.", "answer": "Hi."}\n'


def init(path: Path, *options: str) -> Result:
    shutil.rmtree(path.parent / "w", ignore_errors=True)
    return CliRunner().invoke(command, [str(path.parent / "w"), str(path), *options], standalone_mode=False)


def refusal(result: Result) -> str:
    assert isinstance(result.exception, CurateError), result.output
    assert result.exception.code in ("E908 cannot-import", "E940 missing-extra"), result.exception
    return f"{result.exception.message} {result.exception.hint}"


def records(path: Path) -> list[dict[str, Any]]:
    files = sorted((path.parent / "w/data").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    gc.collect()  # A refusal and the frames that it went through hold each other.
    # What was read last may still be held, to be read again.
    assert len(list(folder.iterdir())) <= 2


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl", "a.gz"])
def test_gzip(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, gzip.compress(PAIR, mtime=0))
    assert init(path).return_value == Exit.OK
    assert records(path)[0]["output"] == "Hi."
    assert [file.name for file in (tmp_path / "w/data").iterdir()] == ["a.jsonl"]


def test_zstandard_and_what_to_install_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zstandard = pytest.importorskip("zstandard")
    path = write(tmp_path, "a.csv.zst", zstandard.compress(b"question,answer\na,b\n"))
    assert init(path).return_value == Exit.OK
    assert records(path)[0]["output"] == "b"
    monkeypatch.setitem(sys.modules, "zstandard", None)
    other = write(tmp_path, "b.csv.zst", path.read_bytes())
    assert "pip install 'pairsmith[files]'" in refusal(init(other))


def test_a_zip_is_read_part_by_part(tmp_path: Path) -> None:
    parts = {"train.jsonl": PAIR * 2, "deep/dev.csv": b"question,answer\na,b\n", "picture.png": b"\x89PNG"}
    path = write(tmp_path, "set.zip", zipped(**parts))
    done = init(path)
    assert [line["split"] for line in records(path)] == ["train", "train", "validation"]
    assert "2 files in it: train.jsonl, deep/dev.csv" in done.stderr
    assert "picture.png is left out" in done.stderr


def test_what_tells_of_the_data_is_no_data(tmp_path: Path) -> None:
    members = {
        "b.jsonl": PAIR,
        "README.md": b"# Hi",
        "docs/LICENSE.txt": b"Free.",
        "in.zip": zipped(**{"a.jsonl": PAIR}),
    }
    done = init(write(tmp_path, "a.zip", zipped(**members)))
    for name in ("README.md", "docs/LICENSE.txt", "in.zip"):
        assert f"{name} is left out: such files are not read in a zip" in done.stderr
    assert len(records(tmp_path / "a.zip")) == 1
    # Where there is nothing else, they are what there is.
    assert init(write(tmp_path, "b.zip", zipped(**{"README.md": b"# Hi"}))).return_value == Exit.OK
    assert "no file in it can be imported: in.zip" in refusal(
        init(write(tmp_path, "c.zip", zipped(**{"in.zip": b"PK"})))
    )
    (tmp_path / "folder").mkdir()
    readme = write(tmp_path / "folder", "README.md", b"# Hi")
    assert "holds no file that can be imported" in refusal(init(tmp_path / "folder"))
    assert init(readme).return_value == Exit.OK


def test_names_in_a_zip_lead_nowhere(tmp_path: Path) -> None:
    path = write(tmp_path, "set.zip", zipped(**{"../../escape.jsonl": PAIR, "/tmp/absolute.jsonl": PAIR}))
    assert init(path).return_value == Exit.OK
    assert len(records(path)) == 2
    assert not list(tmp_path.parent.rglob("escape.jsonl"))
    assert not Path("/tmp/absolute.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.zip", b"PK\x03\x04rest", "it cannot be unpacked"),
        ("a.jsonl.gz", gzip.compress(PAIR * 1000, mtime=0)[:-20], "it cannot be unpacked"),
        ("a.zip", zipped(**{f"{n}.jsonl": b"{}\n" for n in range(1001)}), "1,001 files in it are more than 1,000"),
        ("a.zip", zipped(**{"inner.jsonl": gzip.compress(PAIR)}), "it holds a file that is packed itself"),
        ("a.zip", zipped(**{"readme.exe": b"MZ"}), "no file in it can be imported"),
        ("a.xlsx", b"PK\x03\x04rest", "it cannot be read as a table of Excel"),
        ("a.xls", b"\xd0\xcf\x11\xe0", "Save the table as .xlsx or CSV"),
    ],
)
def test_what_is_damaged_or_hostile_is_refused(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    assert said in refusal(init(write(tmp_path, name, data)))
    assert not (tmp_path / "w").exists()


def bomb(name: str) -> bytes:
    """A file that unpacks to a thousand times its size: to 2 GB of one letter, or to 256 MB of blanks."""
    if name.endswith(".gz"):
        piece = gzip.compress(b"a" * (1 << 24), mtime=0)
        return piece * 128
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        inner = "xl/worksheets/sheet1.xml" if name.endswith(".xlsx") else "a.jsonl"
        with archive.open(inner, "w", force_zip64=True) as file:
            for _ in range(16):
                file.write(b" " * (1 << 24))
    return buffer.getvalue()


@pytest.mark.ci
@pytest.mark.parametrize("name", ["bomb.jsonl.gz", "bomb.zip", "bomb.xlsx"])
def test_a_bomb_is_refused_with_little_memory_and_time(
    tmp_path: Path, name: str, record_testsuite_property: Callable[[str, object], None]
) -> None:
    path = write(tmp_path, name, bomb(name))
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from curate.base.record import CurateError\n"
        "from curate.formats.import_plan import plan_import\n"
        "import openpyxl\n"
        "before = resource.getrusage(resource.RUSAGE_SELF)\n"
        "try:\n    plan_import(Path(sys.argv[1]), None)\n"
        "except CurateError as error:\n    print(error.message)\n"
        "after = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print((after.ru_maxrss - before.ru_maxrss) // 1024, round(after.ru_utime - before.ru_utime, 2))\n"
    )

    # Whatever goes wrong takes a minute of one core at the most.
    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))

    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True, preexec_fn=bounded
    )
    said, figures = done.stdout.splitlines()
    assert re.search(r"unpack\w* to", said), said
    megabytes, seconds = figures.split()
    figures = f"{name}: {path.stat().st_size:,} bytes refused with {megabytes} MB more, {seconds} s of CPU time"
    assert int(megabytes) < 100, figures
    record_testsuite_property(name, figures)


def test_the_bombs_of_others_are_refused(shared: Path, tmp_path: Path) -> None:
    for name in ("bomb.jsonl.gz", "zip_slip_and_bomb.zip"):
        path = write(tmp_path, name, (shared / "badinputs/jsonl" / name).read_bytes())
        assert "to more than" in refusal(init(path))
        assert not (tmp_path.parent / "escape.jsonl").exists()
        assert not (tmp_path / "w").exists()


def workbook(path: Path, *sheets: list[list[Any]]) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"sheet {number}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_a_table_of_excel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workbook(
        tmp_path / "faq.xlsx", [], [["question", "answer", None], ["How many?", 3, None], ["Who?", "me"]], [["a"]]
    )
    done = init(path)
    assert [(line["instruction"], line["output"]) for line in records(path)] == [("How many?", "3"), ("Who?", "me")]
    assert "sheet 'sheet 2' (1 rows) is left out" in done.stderr
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    other = write(tmp_path, "other.xlsx", path.read_bytes())
    said = refusal(init(other))
    assert "pip install 'pairsmith[files]'" in said
    assert "save the table as CSV" in said


@pytest.mark.ci
def test_two_cells_of_excel_that_are_far_apart_are_no_bomb(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row, cells in enumerate((("question", "answer"), *[("How long?", "3 days")] * 5), 1):
        for column, value in enumerate(cells, 1):
            book.active.cell(row, column, value)
    book.active.cell(1_000_000, 900, "far")
    path = tmp_path / "far.xlsx"
    book.save(path)
    init(path)
    assert records(path)[0]["output"] == "3 days"


def arrow(path: Path, rows: dict[str, list[str]], *, is_file: bool = False, compression: str | None = None) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table(rows)
    options = pyarrow.ipc.IpcWriteOptions(compression=compression)
    make = pyarrow.ipc.new_file if is_file else pyarrow.ipc.new_stream
    with pyarrow.OSFile(str(path), "wb") as sink, make(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return path


@pytest.mark.parametrize("is_file", [False, True])
def test_arrow(tmp_path: Path, is_file: bool) -> None:
    path = arrow(tmp_path / "a.arrow", {"question": ["a", "c"], "answer": ["b", "d"]}, is_file=is_file)
    assert init(path).return_value == Exit.OK
    assert [line["output"] for line in records(path)] == ["b", "d"]


def test_a_folder_of_arrow_files_as_the_cache_of_datasets_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "dataset_info.json").write_text("{}", encoding="utf-8")
    for name in ("set-train", "set-test"):
        arrow(folder / f"{name}.arrow", {"question": [name], "answer": ["b"]})
    assert init(folder).return_value == Exit.OK
    assert {(line["instruction"], line["split"]) for line in records(folder)} == {
        ("set-train", "train"),
        ("set-test", "test"),
    }


@pytest.mark.ci
def test_arrow_that_is_compressed_or_damaged_or_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"question": ["a" * 99] * 9, "answer": ["b"] * 9}
    packed = arrow(tmp_path / "packed.arrow", rows, compression="zstd")
    assert "its buffers are compressed" in refusal(init(packed))
    raw = arrow(tmp_path / "a.arrow", rows).read_bytes()
    for number in range(0, len(raw), 7):
        # Each is read or refused; none ends the process.
        path = write(tmp_path, "damaged.arrow", raw[:number] + b"\x7f" + raw[number + 1 :])
        with suppress(CurateError):
            list(container_of(path).rows(path))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'pairsmith[hub]'" in refusal(init(tmp_path / "a.arrow"))


def test_documents_are_records_by_heading_or_file(tmp_path: Path) -> None:
    folder = tmp_path / "book"
    (folder / "part").mkdir(parents=True)
    (folder / ".hidden.md").write_text("# No\n", encoding="utf-8")
    text = "Preface.\n\n# One\n\n```\n# no heading\n```\n\n## Within\n\nText.\n\n# Two\n\nMore.\n"
    (folder / "a.md").write_text(text, encoding="utf-8")
    (folder / "part/b.txt").write_text("Plain.\n# no heading here", encoding="utf-8")
    (folder / "part/c.txt").write_bytes(b"bin\x00ary")
    done = init(folder)
    assert done.return_value == Exit.FINDINGS
    assert [(line["text"].split("\n")[0], line["meta"]) for line in records(folder)] == [
        ("Preface.", {"source": "a.md"}),
        ("# One", {"source": "a.md", "title": "One"}),
        ("# Two", {"source": "a.md", "title": "Two"}),
        ("Plain.", {"source": "part/b.txt"}),
    ]
    assert "one record a heading of Markdown, one a file of plain text" in done.stderr
    assert "NUL" in (tmp_path / "w/quarantine/book.jsonl").read_text(encoding="utf-8")


TEXTS = {
    "german": ("cp1252", "Frage,Antwort\nWie groß ist die Brücke?,Sie ist schön und für Fußgänger\n"),
    "french": (
        "cp1252",
        "question,réponse\nOù est-elle ?,À côté de l’église où l’on a dîné à Noël\nÇa va ?,Très bien\n",
    ),
    "english": ("cp1252", "question,answer\nWhat’s it called?,“The café” – they don’t say… £5\n"),
    "polish": ("cp1250", "pytanie,odpowiedź\nGdzie jest łóżko?,Łóżko stoi w pokoju\nzażółć gęślą,jaźń\n"),
    "russian": ("cp1251", "вопрос,ответ\nГде находится Москва?,Москва находится в России\n"),
    "russian of Unix": ("koi8-r", "вопрос,ответ\nГде находится Москва?,Москва находится в России\n"),
    "DOS": ("cp850", "Frage,Antwort\nWie groß ist die Brücke?,Sie ist schön und für Fußgänger\n"),
    "Excel's Unicode": ("utf-16", "question,answer\nHow long?,3 days\n"),
    "UTF-16 without a mark": ("utf-16-le", "question,answer\nHow long?,3 days\n"),
}


@pytest.mark.parametrize("name", list(TEXTS))
def test_the_encoding_of_a_table_is_told_or_asked_for_and_never_guessed(tmp_path: Path, name: str) -> None:
    encoding, text = TEXTS[name]
    path = write(tmp_path, "table.csv", text.encode(encoding))
    header, *lines = (line.split(",") for line in text.splitlines())
    options = ["--map", f"instruction={header[0]},output={header[1]}"]
    if encoding.startswith("utf"):
        assert f"its encoding is {encoding}, by its first bytes" in init(path, *options).stderr
    else:
        assert f"--encoding {encoding} " in refusal(init(path, *options))
        assert init(path, *options, "--encoding", encoding).return_value == Exit.OK
    assert [(line["instruction"], line["output"]) for line in records(path)] == [tuple(line) for line in lines]


def test_an_encoding_that_nobody_can_tell_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "table.csv", "question,answer\nma mère,mon père\nune ville,a town\n".encode("cp1252"))
    said = refusal(init(path))
    assert "--encoding cp1252 (mère) or --encoding cp1250 (mčre)" in said
    assert init(path, "--encoding", "cp1252").return_value == Exit.OK
    assert records(path)[0]["output"] == "mon père"


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (b"question,answer\na,\xff\xfe\xfd\n", ("--encoding", "ascii"), "it is not ascii"),
        (b"question,answer\na,b\n", ("--encoding", "klingon"), "there is no encoding of texts called 'klingon'"),
        (b"question,answer\na,b\n", ("--encoding", "base64"), "there is no encoding of texts called 'base64'"),
    ],
)
def test_an_encoding_that_is_not_there_or_not_that(
    tmp_path: Path, data: bytes, options: tuple[str, ...], said: str
) -> None:
    assert said in refusal(init(write(tmp_path, "table.csv", data), *options))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt", "a.md", "a.json", "a.xlsx", "a.zip", "a.gz"])
def test_what_is_no_text_is_not_advised_to_be_decoded(name: str, tmp_path: Path) -> None:
    rng = random.Random(1)
    packed = struct.pack("<500i", *range(500))
    for number, data in enumerate((rng.randbytes(2000), rng.randbytes(50), bytes(300), packed)):
        (folder := tmp_path / str(number)).mkdir()
        (folder / name).write_bytes(data)
        text = refusal(init(folder / name))
        assert "--encoding" not in text
        assert "does not look like text" in text or "Save or fetch it again" in text or "curate validate" in text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_text_is_known_by_its_first_bytes(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("question,answer\nWie groß?,schön\n".encode(encoding))
    done = init(tmp_path / "a.csv")
    assert f"its encoding is {encoding}, by its first bytes" in done.stderr
    assert records(tmp_path / "a.csv") == [{"instruction": "Wie groß?", "output": "schön"}]


def test_a_utf8_table_with_a_broken_row_stays_utf8(tmp_path: Path) -> None:
    text = "question,answer\nWie groß?,schön\nüber,".encode() + b"\xff\xfe\n" + "für,größer\n".encode()
    path = write(tmp_path, "table.csv", text)
    assert init(path).return_value == Exit.FINDINGS
    assert [line["output"] for line in records(path)] == ["schön", "größer"]


def test_lines_of_json_in_another_encoding_need_to_be_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", '{"question": "mère", "answer": "père"}\n'.encode("cp1252"))
    assert "--encoding cp1252" in refusal(init(path))
    assert init(path, "--encoding", "cp1252").return_value == Exit.OK
    assert records(path)[0]["output"] == "père"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("gb18030", "很好，谢谢。"),
        ("cp932", "とても良いです。"),
        ("euc-kr", "아주 좋아요."),
        ("cp1251", "Очень хорошая."),
    ],
)
def test_each_encoding_that_decodes_is_named_and_works(tmp_path: Path, encoding: str, text: str) -> None:
    line = json.dumps({"question": text, "answer": text}, ensure_ascii=False)
    path = write(tmp_path, "rows.jsonl", line.encode(encoding))
    assert f"--encoding {encoding}" in refusal(init(path))
    assert init(path, "--encoding", encoding).return_value == Exit.OK
    assert records(path)[0]["output"] == text


def test_the_unicode_text_of_excel_is_a_table(tmp_path: Path) -> None:
    path = write(tmp_path, "table.txt", "question\tanswer\r\nWho?\tMe\r\n".encode("utf-16"))
    assert init(path).return_value == Exit.OK
    assert [(line["instruction"], line["output"]) for line in records(path)] == [("Who?", "Me")]


@pytest.mark.parametrize("compression", ["uncompressed", "zstd"])
def test_arrow_as_polars_writes_it(tmp_path: Path, compression: Any) -> None:
    polars, path = pytest.importorskip("polars"), tmp_path / "rows.arrow"
    polars.DataFrame({"question": ["Who?", "How?"], "answer": ["Me", "So"]}).write_ipc(path, compression=compression)
    done = init(path)
    if compression == "zstd":
        assert "its buffers are compressed" in refusal(done)
    else:
        assert [line["output"] for line in records(path)] == ["Me", "So"]


def test_zstandard_that_is_damaged_or_ends_too_soon_is_refused(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    lines = "".join(f'{{"question": "{number * 7919}", "answer": "{number}"}}\n' for number in range(20_000)).encode()
    packed = zstandard.compress(lines)
    assert "it ends too soon" in refusal(init(write(tmp_path, "cut.jsonl.zst", packed[: len(packed) // 2])))
    assert "it cannot be unpacked" in refusal(init(write(tmp_path, "bad.jsonl.zst", packed[:9] + packed[40:])))
    assert init(path := write(tmp_path, "two.jsonl.zst", packed + zstandard.compress(PAIR))).return_value == Exit.OK
    assert len(records(path)) == 20_001


def test_a_formula_without_its_value_and_an_error_are_no_answers(tmp_path: Path) -> None:
    openpyxl, path = pytest.importorskip("openpyxl"), tmp_path / "table.xlsx"
    book = openpyxl.Workbook()
    for row in (["question", "answer", "price"], ["a", "=1+1"], ["b", "B", "=1+1"], ["c", "#REF!"], ["d", "D", 4]):
        book.active.append(row)
    book.save(path)
    done = init(path)
    assert [line["output"] for line in records(path)] == ["D"]
    assert "'answer' is =1+1, of which no value is stored" in done.stderr
    assert "3 rows in" in done.stderr


def test_what_cannot_be_unpacked_is_called_by_its_name(tmp_path: Path) -> None:
    locked = bytearray(zipped(**{"a.jsonl": PAIR}))
    locked[6] |= 1
    locked[locked.find(b"PK\x01\x02") + 8] |= 1
    assert refusal(init(write(tmp_path, "a.zip", bytes(locked)))).startswith(f"{tmp_path}/a.zip: a.jsonl in it needs a")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../a.jsonl"))
    said = refusal(init(write(tmp_path, "a.tar.gz", buffer.getvalue())))
    assert said.startswith(f"{tmp_path}/a.tar.gz: a tar archive")


def test_the_line_in_which_excel_names_the_separator_is_no_row(tmp_path: Path) -> None:
    path = write(tmp_path, "table.csv", b'sep=;\r\nquestion;answer\r\n"a,b";c\r\n')
    assert init(path).return_value == Exit.OK
    assert [(line["instruction"], line["output"]) for line in records(path)] == [("a,b", "c")]


def test_a_dictionary_of_arrow_that_is_compressed_is_refused_too(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    ipc = pyarrow.ipc
    table = pyarrow.table({"text": pyarrow.array(["a" * 1000, "b"] * 9).dictionary_encode()})

    def messages(compression: str | None) -> list[Any]:
        sink = pyarrow.BufferOutputStream()
        with ipc.new_stream(sink, table.schema, options=ipc.IpcWriteOptions(compression=compression)) as stream:
            stream.write_table(table)
        return list(ipc.MessageReader.open_stream(sink.getvalue()))

    pairs = zip(messages(None), messages("zstd"), strict=True)
    mixed = [packed if packed.type == "dictionary" else plain for plain, packed in pairs]
    data = b"".join(one.serialize().to_pybytes() for one in mixed) + b"\xff\xff\xff\xff\0\0\0\0"
    assert "its buffers are compressed" in refusal(init(write(tmp_path, "a.arrow", data)))
