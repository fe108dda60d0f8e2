"""Captions in JSON Lines and CSV."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from showtell.errors import CaptionFileError, ConfigurationError
from showtell.outputs import CsvTable, JsonLines

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
    with pytest.raises(ConfigurationError, match="not a file"):
        kind(tmp_path)


def test_a_table_edited_by_a_user_keeps_its_columns(tmp_path):
    path = tmp_path / "edited.csv"
    content = b'\xef\xbb\xbfcaption,path,notes\r\nmy own words,a.jpg,"so,\r\nso"\r\n,b.jpg,to do'
    path.write_bytes(content)
    table = CsvTable(path)
    assert table.has("a.jpg") and not table.has("b.jpg")
    table.add({"path": "a.jpg", "caption": "a dog"})
    table.add({"path": "b.jpg", "caption": "a dog", "confidence": 0.5})
    assert path.read_bytes() == content + b"\na dog,b.jpg,\n"
