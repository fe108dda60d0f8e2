import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.data import Example, read_caption_file
from showtell.errors import CaptionFileError, ConfigurationError

COCO = {
    "info": {"description": "tiny"},
    "images": [
        {"id": 9, "file_name": "b.jpg", "width": 640},
        {"id": 4, "file_name": "a.jpg", "width": 640},
        {"id": 5, "file_name": "without.jpg"},
    ],
    "annotations": [
        {"image_id": 4, "id": 1, "caption": "A dog.\n"},
        {"image_id": 9, "id": 2, "caption": "A  red bus"},
        {"image_id": 4, "id": 3, "caption": "The dog"},
        {"image_id": 9, "id": 4, "caption": " "},
    ],
}
KARPATHY = {
    "images": [
        {
            "filepath": "val2014",
            "filename": "a.jpg",
            "split": "restval",
            "sentences": [{"raw": "A dog.", "tokens": ["a", "dog"]}, {"raw": "The dog"}],
        },
        {"filename": "b.jpg", "split": "val", "sentences": [{"raw": 'A bus with "annotations"'}]},
        {"filename": "c.jpg", "split": "test", "sentences": [{"raw": "A cat"}]},
    ],
    "dataset": "coco",
}
FLICKR = "a.jpg#0\tA dog .\nb.jpg.1#0\tA bus\ta tab and #1 .\na.jpg#1\tThe dog\nc.jpg#0\tA cat\nd.jpg#0\t\n"
TABLE = 'file_name,text,split\na.jpg,"A dog, red",train\nb.jpg,"A ""bus""",dev\na.jpg,The dog,train\n'
LINES = (
    '{"file_name": "a.jpg", "text": ["A dog", "The dog"], "split": "train"}\n'
    "\n"
    '{"file_name": "b.jpg", "text": "A bus \\u2014 red", "split": null}\n'
)


@pytest.fixture
def write(tmp_path):
    def write_file(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, bytes | str):
            content = json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


# One test per format. The expected examples are written by hand.


def test_coco_json_is_read(write):
    assert read_caption_file(write("captions_val2017.json", COCO)) == [
        Example("b.jpg", ("A red bus",), None),
        Example("a.jpg", ("A dog.", "The dog"), None),
    ]


def test_karpathy_json_is_read(write):
    assert read_caption_file(write("dataset.json", KARPATHY)) == [
        Example("val2014/a.jpg", ("A dog.", "The dog"), "train"),
        Example("b.jpg", ('A bus with "annotations"',), "val"),
        Example("c.jpg", ("A cat",), "test"),
    ]


def test_flickr_without_lists(write):
    assert read_caption_file(write("results.token", FLICKR)) == [
        Example("a.jpg", ("A dog .", "The dog")),
        Example("b.jpg.1", ("A bus a tab and #1 .",)),
        Example("c.jpg", ("A cat",)),
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("Flickr_8k.trainImages.txt", "Flickr_8k.devImages.txt", "Flickr_8k.testImages.txt"),
        ("training_images.txt", "flickr30k_val_images.txt", "TESTIMAGES.TXT"),
    ],
)
def test_flickr_uses_the_image_lists_in_the_same_folder(write, names):
    for name, content in zip(names, ("a.jpg\r\n", "unknown.jpg\nb.jpg.1\n", "c.jpg"), strict=True):
        write(name, content)
    write("contestImages.txt", "d.jpg")
    assert [(example.image, example.split) for example in read_caption_file(write("Flickr8k.token.txt", FLICKR))] == [
        ("a.jpg", "train"),
        ("b.jpg.1", "val"),
        ("c.jpg", "test"),
    ]


def test_images_in_no_list_are_skipped(write):
    write("Flickr_8k.devImages.txt", "c.jpg\n")
    assert read_caption_file(write("Flickr8k.token.txt", FLICKR)) == [Example("c.jpg", ("A cat",), "val")]


def test_explicit_lists_replace_detected_lists(write):
    write("Flickr_8k.devImages.txt", "c.jpg\n")
    path = write("Flickr8k.token.txt", FLICKR)
    chosen = write("lists/mine.txt", "a.jpg\n")
    assert read_caption_file(path, lists={"train": chosen}) == [Example("a.jpg", ("A dog .", "The dog"), "train")]
    assert [example.split for example in read_caption_file(path, lists={})] == [None, None, None]


def test_lists_override_the_splits_of_any_format(write):
    chosen = write("mine.txt", "b.jpg\n")
    assert read_caption_file(write("t.csv", TABLE), lists={"test": chosen}) == [Example("b.jpg", ('A "bus"',), "test")]


TABLE_EXAMPLES = [Example("a.jpg", ("A dog, red", "The dog"), "train"), Example("b.jpg", ('A "bus"',), "val")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", TABLE),
        ("windows.csv", "\ufeff" + TABLE.replace("\n", "\r\n")),
        ("blank lines.csv", "\n" + TABLE.replace("\n", "\n\n")),
        (
            "other names.csv",
            'Comment,Image_Name,SET\n"A dog, red",a.jpg,training\n"A ""bus""",./b.jpg,Validation\nThe dog,a.jpg,\n',
        ),
        (
            "from pandas.csv",
            ',caption,image,split\n0,"A dog, red",a.jpg,train\n1,"A ""bus""",b.jpg,valid\n2,The dog,a.jpg,train\n',
        ),
        ("line break.csv", TABLE.replace("The dog", '"The\ndog"')),
        (
            "t.tsv",
            'path\talt\tsubset\na.jpg\tA dog, red\trestval\nb.jpg\t"A ""bus"""\tval\na.jpg\tThe dog\ttrain\n',
        ),
        (
            "semicolons.csv",
            '"image";"caption";"split"\na.jpg;A dog, red;train\nb.jpg;A "bus";val\na.jpg;The dog;train\n',
        ),
        ("bars.csv", 'image| caption| split\na.jpg| A dog, red| train\nb.jpg| A "bus"| val\na.jpg| The dog| train\n'),
    ],
)
def test_tables_are_read(write, name, content):
    assert read_caption_file(write(name, content)) == TABLE_EXAMPLES


def test_a_table_without_splits_is_read(write):
    kaggle = "image,caption\na.jpg,A dog .\na.jpg,The dog\nb.jpg,\n"
    assert read_caption_file(write("captions.txt", kaggle)) == [Example("a.jpg", ("A dog .", "The dog"))]
    indexed = ",image,caption\n0,a.jpg,A dog .\n"
    assert read_caption_file(write("indexed.csv", indexed)) == [Example("a.jpg", ("A dog .",))]


def test_flickr30k_results_csv_with_an_incomplete_row(write):
    content = "image_name| comment_number| comment\na.jpg| 0| A dog .\na.jpg| 4   A cat .\nb.jpg| 0| A bus, red .\n"
    assert read_caption_file(write("results.csv", content)) == [
        Example("a.jpg", ("A dog .",)),
        Example("b.jpg", ("A bus, red .",)),
    ]


def test_json_lines_are_read(write):
    expected = [Example("a.jpg", ("A dog", "The dog"), "train"), Example("b.jpg", ("A bus \u2014 red",), None)]
    assert read_caption_file(write("metadata.jsonl", LINES)) == expected
    assert read_caption_file(write("any name.txt", LINES)) == expected
    assert read_caption_file(write("one.json", LINES.partition("\n")[0])) == expected[:1]


def test_json_lines_with_other_keys_are_read(write):
    content = '{"Image": "x/a.jpg", "captions": ["A\u2028dog"], "other": [1, {}]}'
    assert read_caption_file(write("a.jsonl", content)) == [Example("x/a.jpg", ("A dog",))]


@pytest.mark.parametrize(("name", "content"), [("metadata.csv", TABLE), ("metadata.jsonl", LINES)])
def test_a_folder_is_read_from_its_metadata_file(write, name, content):
    path = write(f"folder/{name}", content)
    write("folder/a.jpg", b"")
    assert read_caption_file(path.parent) == read_caption_file(path)


def test_the_format_can_be_set(write):
    path = write("odd.jsonl", "file,text\na.jpg#0\tx,y\n")
    assert read_caption_file(path, format="csv") == [Example("a.jpg#0 x".replace(" ", "\t"), ("y",))]
    with pytest.raises(CaptionFileError, match="not JSON"):
        read_caption_file(path)


def test_backslashes_become_slashes(write):
    path = write("a.csv", "image,caption\ntrain\\a.jpg,A dog\ntrain//a.jpg,The dog\n")
    assert read_caption_file(path) == [Example("train/a.jpg", ("A dog", "The dog"))]


# Every possible error, and what its message must contain.


@pytest.mark.parametrize(
    "name", ["/etc/a.jpg", "../a.jpg", "x/../../a.jpg", "..\\a.jpg", "\\a.jpg", "C:\\a.jpg", "c:a"]
)
def test_names_outside_the_image_folder_are_rejected(write, name):
    with pytest.raises(CaptionFileError, match=r"line 3: invalid image name .*inside the image folder"):
        read_caption_file(write("a.csv", f"image,caption\nb.jpg,A bus\n{name},A dog\n"))
    with pytest.raises(CaptionFileError, match=r"line 1: invalid image name .*inside the image folder"):
        read_caption_file(write("a.txt", f"{name}#0\tA dog"))
    image = {"filename": "a.jpg", "filepath": name, "sentences": []}
    with pytest.raises(CaptionFileError, match=r"images\[0\]: invalid image name .*inside the image folder"):
        read_caption_file(write("a.json", {"images": [image]}))


def with_change(value, *path, to):
    """Return a copy of nested lists and dicts with one value replaced, or removed if `to` is KeyError."""
    value = copy.deepcopy(value)
    target = value
    for key in path[:-1]:
        target = target[key]
    if to is KeyError:
        del target[path[-1]]
    else:
        target[path[-1]] = to
    return value


BAD_FILES = [
    ("empty.csv", b"", "the file is empty"),
    ("blank.json", b"\xef\xbb\xbf \n", "the file is empty"),
    ("latin1.csv", b"image,caption\na.jpg,A dog\nb.jpg,caf\xe9\n", "line 3: not UTF-8"),
    ("utf16.csv", "image,caption\n".encode("utf-16"), "line 1: not UTF-8"),
    ("nul.csv", b"image,caption\na\0.jpg,A dog\n", r"line 2: invalid image name 'a\\x00.jpg'"),
    ("nul.tsv", b"image\tcaption\na.jpg\tA\0dog\n", r"line 2: a caption .*'A\\x00dog'"),
    ("surrogate.jsonl", '{"image": "a.jpg", "caption": "\\ud800"}', r"line 1: a caption .*'\\ud800'"),
    ("header only.csv", "image,caption\n", "the file has no captions"),
    ("blank captions.csv", "image,caption\na.jpg, \n", "the file has no captions"),
    (
        "no image.csv",
        "title,caption\na,A dog\n",
        r"line 1: the columns are \['title', 'caption'\]; expected one for the image \(file_",
    ),
    ("no caption.csv", "image,label\na.jpg,dog\n", r"line 1: .*one for the caption \(caption, .*text"),
    ("no header.csv", "a.jpg,A dog\n", r"line 1: the columns are \['a.jpg', 'a dog'\]; expected one"),
    ("prose.txt", "A dog on a beach.\n", "line 1: .*expected one for the image"),
    ("commas.csv", ",,,\n,,\n", "line 1: .*expected one for the image"),
    ("unquoted.csv", "image,caption\na.jpg,A dog, red\n", "line 2: 3 cells, but the header has 2; .*quotation marks"),
    ("open quote.csv", 'image,caption\na.jpg,A dog\nb.jpg,"A bus\nc.jpg,A cat\n', "line 3: unexpected end of data"),
    ("bad quote.csv", 'image,caption\na.jpg,"A" dog\n', "line 2: .*quotation mark"),
    ("huge.csv", 'image,caption\na.jpg,"' + "x" * 200_000 + "\n", "line 2: field larger than field limit"),
    ("no name.csv", "image,caption\n,A dog\n", "line 2: invalid image name ''"),
    (
        "split.csv",
        "image,caption,split\na.jpg,A dog,train\nb.jpg,A,trian\n",
        "line 3: unknown split 'trian'; .*one of: train",
    ),
    (
        "two splits.csv",
        "image,caption,split\na.jpg,A,train\na.jpg,B,val\n",
        "line 3: 'a.jpg' is in split val, but was in train",
    ),
    ("a.token.txt", "a.jpg#0\tA dog\nb.jpg A bus\n", "line 2: 'b.jpg A bus'; expected NAME#NUMBER, a tab"),
    ("list.jsonl", "[1]\n", r"line 1: \[1\]; expected an object"),
    ("broken.jsonl", LINES + '{"file_name": \n', "line 4: not JSON: Expecting value"),
    (
        "no key.jsonl",
        LINES + '{"file_name": "a.jpg"}\n',
        r"line 4: the columns are \['file_name'\]; expected .*caption",
    ),
    ("type.jsonl", '{"image": 1, "caption": "A"}', "line 1: 'image' is 1; expected text"),
    ("type2.jsonl", '{"image": "a.jpg", "caption": null}', "line 1: 'caption' is None; expected text or a list"),
    ("type3.jsonl", '{"image": "a.jpg", "caption": ["A", 2]}', "line 1: the caption is 2; expected text"),
    ("type4.jsonl", '{"image": "a.jpg", "caption": "A", "split": 1}', "line 1: 'split' is 1; expected text or null"),
    ("broken.json", json.dumps(COCO, indent=1)[:-3], "line [0-9]+: not JSON: Expecting"),
    ("deep.json", '{"images": ' + "[" * 100_000, "the file: cannot read the JSON: maximum recursion"),
    ("number.json", '{"images": ' + "1" * 5000, "the file: cannot read the JSON: Exceeds the limit"),
    ("results.json", [{"image_id": 1, "caption": "A dog"}], "the file: .*expected an object with the key 'images'"),
    ("a.json", with_change(COCO, "images", to={}), "the file: 'images' is {}; expected a list"),
    ("a.json", with_change(COCO, "annotations", to=KeyError), "the file: the key 'annotations' is missing"),
    (
        "a.json",
        with_change(COCO, "images", 1, to="a.jpg"),
        r"images\[1\]: 'a.jpg'; expected an object with the key 'id'",
    ),
    ("a.json", with_change(COCO, "images", 1, "id", to=[4]), r"images\[1\]: 'id' is \[4\]; expected a number or text"),
    ("a.json", with_change(COCO, "images", 1, "id", to=9), r"images\[1\]: duplicate id 9"),
    (
        "a.json",
        with_change(COCO, "images", 1, "file_name", to=KeyError),
        r"images\[1\]: the key 'file_name' is missing",
    ),
    ("a.json", with_change(COCO, "annotations", 2, "image_id", to=7), r"annotations\[2\]: no image has the image_id 7"),
    (
        "a.json",
        with_change(COCO, "annotations", 2, "caption", to=KeyError),
        r"annotations\[2\]: the key 'caption' is mis",
    ),
    (
        "a.json",
        with_change(COCO, "annotations", 2, "caption", to=3),
        r"annotations\[2\]: 'caption' is 3; expected text",
    ),
    ("a.json", with_change(KARPATHY, "images", 0, "split", to="all"), r"images\[0\]: unknown split 'all'"),
    (
        "a.json",
        with_change(KARPATHY, "images", 1, "sentences", to=KeyError),
        r"images\[1\]: the key 'sentences' is missing",
    ),
    (
        "a.json",
        with_change(KARPATHY, "images", 0, "sentences", 1, to="A"),
        r"images\[0\]\.sentences\[1\]: 'A'; expected an",
    ),
    (
        "a.json",
        with_change(KARPATHY, "images", 0, "filepath", to=2014),
        r"images\[0\]: 'filepath' is 2014; expected text",
    ),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_errors_name_the_problem_in_one_line(write, name, content, message):
    path = write(name, content)
    with pytest.raises(CaptionFileError, match=message) as caught:
        read_caption_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 350


def test_missing_files_are_rejected(tmp_path):
    with pytest.raises(CaptionFileError, match=r"absent\.csv: cannot read the file: No such file"):
        read_caption_file(tmp_path / "absent.csv")
    with pytest.raises(CaptionFileError, match=r"no metadata\.csv or metadata\.jsonl; pass a caption file"):
        read_caption_file(tmp_path)


def test_a_folder_with_two_metadata_files_is_rejected(write):
    write("metadata.csv", TABLE)
    path = write("metadata.jsonl", LINES)
    with pytest.raises(CaptionFileError, match=r"has both metadata\.csv and metadata\.jsonl"):
        read_caption_file(path.parent)


def test_an_unknown_format_is_rejected(write):
    with pytest.raises(
        ConfigurationError, match="unknown caption format 'xml'; expected one of: coco, karpathy, flickr, csv, tsv"
    ):
        read_caption_file(write("a.csv", TABLE), format="xml")


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (
            {"trainImages.txt": "a.jpg", "devImages.txt": "c.jpg\na.jpg"},
            r"trainImages\.txt: line 1: 'a.jpg' is also in the list of split val",
        ),
        (
            {"trainImages.txt": "a\nb\n"},
            r"trainImages\.txt: the list contains no captioned image; expected names such as 'a\.jpg'",
        ),
        (
            {"devImages.txt": "a.jpg", "valImages.txt": "c.jpg"},
            r"valImages\.txt: devImages\.txt .* is also a list of split val",
        ),
        ({"devImages.txt": "../a.jpg"}, r"devImages\.txt: line 1: invalid image name"),
        ({"devImages.txt": b"\xff"}, r"devImages\.txt: line 1: not UTF-8"),
    ],
)
def test_inconsistent_lists_are_rejected(write, lists, message):
    for name, content in lists.items():
        write(name, content)
    with pytest.raises(CaptionFileError, match=message):
        read_caption_file(write("Flickr8k.token.txt", FLICKR))


def test_a_list_of_an_unknown_split_is_rejected(write):
    path = write("Flickr8k.token.txt", FLICKR)
    with pytest.raises(ConfigurationError, match="unknown split 'all'"):
        read_caption_file(path, lists={"all": path})


SAMPLES = {
    "a.json": json.dumps(COCO),
    "b.json": json.dumps(KARPATHY),
    "c.token.txt": FLICKR,
    "d.csv": TABLE,
    "e.jsonl": LINES,
    "f.tsv": TABLE.replace(",", "\t"),
}


def check_result_or_error(path):
    try:
        examples = read_caption_file(path)
    except CaptionFileError as error:
        assert "\n" not in str(error)
        return
    assert examples
    for example in examples:
        assert example.captions
        assert all(caption.strip() for caption in example.captions)
        assert ".." not in example.image.split("/")
        assert not example.image.startswith("/")
        json.dumps([example.image, *example.captions], ensure_ascii=False).encode()


@settings(deadline=None, max_examples=300)
@given(
    name=st.sampled_from(sorted(SAMPLES)),
    edits=st.lists(
        st.tuples(
            st.floats(0, 1),
            st.integers(0, 8),
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from([b'"', b"\0", b"\n", b"\r", b",", b"\t", b"#", b"\\", b"{", b"../"]),
            ),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_a_damaged_file_is_read_or_rejected(tmp_path_factory, name, edits):
    content = SAMPLES[name].encode()
    for position, length, replacement in edits:
        start = round(position * len(content))
        content = content[:start] + replacement + content[start + length :]
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    check_result_or_error(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["raw", "caption", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def paths_of(value, path=()):
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths_of(inner, (*path, key))


@settings(deadline=None, max_examples=300)
@given(data=st.data(), value=JSON | st.just(KeyError), sample=st.sampled_from([COCO, KARPATHY]))
def test_any_json_value_in_any_position_is_read_or_rejected(tmp_path_factory, data, value, sample):
    path_in_sample = data.draw(st.sampled_from(list(paths_of(sample))))
    path = tmp_path_factory.getbasetemp() / "value.json"
    path.write_text(json.dumps(with_change(sample, *path_in_sample, to=value)))
    check_result_or_error(path)
