"""Captions in JSON Lines and CSV."""

import csv

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from showtell.errors import CaptionFileError, ConfigurationError
from showtell.outputs import CsvTable, JsonLines
from showtell.outputs.csv_table import _escape_formula, _unescape_formula

RECORDS = [
    {"path": "a.jpg", "caption": 'a "dog", running', "confidence": 0.25, "needs_review": True},
    {"path": "b\n,c.jpg", "error": "'b': no such file"},
    {"path": "d\udcff.jpg", "caption": "two\ncats"},
    {"path": "é.jpg", "caption": "ein Hund läuft"},
]


@pytest.mark.parametrize("kind", [JsonLines, CsvTable])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_file_is_repaired_and_continued(kind, tmp_path, data):
    complete, truncated = tmp_path / "complete", tmp_path / "truncated"
    for record in RECORDS:
        kind(complete).add(record)
    content = complete.read_bytes()
    # A line break within a path is written by a single call together with the rest of the path.
    size = data.draw(st.integers(0, len(content)).filter(lambda size: b'"b\n' not in content[:size][-60:]))
    truncated.write_bytes(content[:size])
    output = kind(truncated)
    assert content[:size].endswith(b"\n") <= (output.incomplete_line == b"")
    for record in RECORDS:
        output.add(record)
    assert truncated.read_bytes() == content
    reopened = kind(truncated)
    assert [reopened.has(record["path"]) for record in RECORDS] == [True, False, True, True]
    for record in RECORDS:
        reopened.add({**record, **({"caption": "other"} if "caption" in record else {})})
    assert truncated.read_bytes() == content and reopened.incomplete_line == b""
    truncated.unlink()
    complete.unlink()


@pytest.mark.parametrize("kind", [JsonLines, CsvTable])
def test_the_removal_of_an_incomplete_line_is_logged(kind, tmp_path, caplog):
    path = tmp_path / "captions"
    kind(path).add(RECORDS[0])
    assert not caplog.records
    path.write_bytes(path.read_bytes()[:-9])
    kind(path)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and record.getMessage().startswith(f"{path}: removed an incomplete last line")


@pytest.mark.parametrize("kind", [JsonLines, CsvTable])
def test_a_caption_after_an_error_adds_a_line(kind, tmp_path):
    path = tmp_path / "captions"
    kind(path).add({"path": "a.jpg", "error": "broken"})
    kind(path).add({"path": "a.jpg", "caption": "a dog"})
    assert kind(path).has("a.jpg") and path.read_text().count("a.jpg") == 2
    assert not kind(path, overwrite=True).has("a.jpg") and "a.jpg" not in path.read_text()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (JsonLines, b"my notes"),
        (JsonLines, b'{"path": "a.jpg", "caption": "a dog"}\nmy notes\n'),
        (JsonLines, b'{"path": "a.jpg", "cap\n{"path": "b.jpg", "caption": "a dog"}\n'),
        (JsonLines, b'[{"path": "a.jpg"}]\n'),
        (JsonLines, b'{"file_name": "a.jpg"}\n'),
        (JsonLines, b"[" * 100_000),
        (JsonLines, b"\xff\xd8\xff\xe0"),
        (CsvTable, b"my notes"),
        (CsvTable, b"file_name,text\na.jpg,a dog\n"),
        (CsvTable, b'path,caption\n"a.jpg,a dog\nb.jpg,a dog\nc.jpg,a dog\n'),
        (CsvTable, b"\xff\xd8\xff\xe0"),
    ],
)
def test_a_file_with_other_content_is_rejected_and_not_changed(tmp_path, kind, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(CaptionFileError, match="choose another file"):
        kind(path)
    assert path.read_bytes() == content
    with pytest.raises(CaptionFileError, match="--overwrite does not replace it"):
        kind(path, overwrite=True)
    assert path.read_bytes() == content
    with pytest.raises(ConfigurationError, match="not a file"):
        kind(tmp_path)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (JsonLines, b'{"path": "a.jpg", "caption": "a dog", "split": "train"}\n'),
        (JsonLines, b'{"path": "a.jpg"}\n'),
        (CsvTable, b"path,caption\na.jpg,a dog\n"),  # a caption file for training
        (CsvTable, b"path,caption,confidence,needs_review,error,notes\na.jpg,a dog,,,,my own\n"),
        (CsvTable, b"path,caption,confidence,needs_review,error\na.jpg,a dog,,,,my own\n"),
        (CsvTable, b"path,caption\n"),
        (CsvTable, b"path,caption,mine\n"),
    ],
)
def test_files_with_data_of_others_are_continued_but_not_replaced(tmp_path, kind, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(CaptionFileError, match="--overwrite does not replace it; remove it, or choose another file"):
        kind(path, overwrite=True)
    kind(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("kind", "content"),
    [(JsonLines, b"{"), (JsonLines, b"\n"), (CsvTable, b"pa"), (CsvTable, b"path,caption,mine"), (CsvTable, b"\n")],
)
def test_short_files_of_others_are_not_replaced(tmp_path, kind, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(CaptionFileError, match="--overwrite does not replace it"):
        kind(path, overwrite=True)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (JsonLines, b""),
        (JsonLines, b'{"path": "a.j'),
        (CsvTable, b""),
        (CsvTable, b"path,capt"),
        (CsvTable, b"path,caption,confidence,needs_review,error"),
        (CsvTable, b"path,caption,confidence,needs_review,error\na.j"),
    ],
)
def test_files_of_an_interrupted_run_are_replaced(tmp_path, kind, content):
    path, new = tmp_path / "file", tmp_path / "new"
    path.write_bytes(content)
    for output in (kind(path, overwrite=True), kind(new)):
        output.add(RECORDS[0])
    assert path.read_bytes() == new.read_bytes()


def test_a_reordered_table_is_replaced_by_one_with_the_usual_columns(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("caption,path,confidence,needs_review,error\na dog,a.jpg,,,\n")
    CsvTable(path, overwrite=True).add({"path": "a.jpg", "caption": "a cat"})
    assert path.read_text() == "path,caption,confidence,needs_review,error\na.jpg,a cat,,,\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "'=", "''@"])
def test_a_spreadsheet_safe_table_has_no_formulas_and_is_continued(tmp_path, start):
    path, image = tmp_path / "captions.csv", f"{start}cmd|' /C calc'!A0.jpg"
    records = [
        {"path": image, "caption": f"{start}a dog", "confidence": 0.5},
        {"path": f"{start}b", "error": f"{start}no such file"},
    ]
    for _ in range(2):
        table = CsvTable(path, spreadsheet_safe=True)
        for record in records:
            table.add(record)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 3 and rows[1] == [f"'{image}", f"'{start}a dog", "0.5", "", ""]
    assert CsvTable(path, spreadsheet_safe=True).has(image)


@given(cell=st.text(st.sampled_from("'=+-@\t\r\n\uff1da"), max_size=6))
def test_escaping_of_formulas_can_be_undone(cell):
    escaped = _escape_formula(cell)
    assert _unescape_formula(escaped) == cell and not escaped.startswith(tuple("=+-@\t\r\n"))


def test_other_cells_keep_their_text_and_are_quoted_for_spreadsheets_with_other_separators(tmp_path):
    for safe in (True, False):
        CsvTable(tmp_path / f"{safe}.csv", spreadsheet_safe=safe).add(
            {"path": "a-b='c;=1;'.jpg", "caption": "'tis a dog"}
        )
    tables = [list(csv.reader((tmp_path / f"{safe}.csv").open(newline=""))) for safe in (True, False)]
    assert tables[0] == tables[1]
    assert (tmp_path / "True.csv").read_text().endswith('\n"a-b=\'c;=1;\'.jpg","\'tis a dog","","",""\n')


def test_a_table_edited_by_a_user_keeps_its_columns(tmp_path):
    path = tmp_path / "edited.csv"
    content = b'\xef\xbb\xbfcaption,path,notes\r\nmy own words,a.jpg,"so,\r\nso"\r\n,b.jpg,to do'
    path.write_bytes(content)
    table = CsvTable(path)
    assert table.has("a.jpg") and not table.has("b.jpg")
    table.add({"path": "a.jpg", "caption": "a dog"})
    table.add({"path": "b.jpg", "caption": "a dog", "confidence": 0.5})
    assert path.read_bytes() == content + b"\na dog,b.jpg,\n"


def test_a_carriage_return_in_a_file_name_does_not_end_a_row(tmp_path):
    path = tmp_path / "captions.csv"
    CsvTable(path).add({"path": "a\r.jpg", "caption": "a dog"})
    assert CsvTable(path).has("a\r.jpg")
