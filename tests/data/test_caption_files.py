import copy
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.data.caption_files import Example, match_images, read_caption_file, split_holdout, with_split
from showtell.errors import CaptionFileError, ConfigurationError, ImageError

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


# One test per format: what is in the file, written out by hand.


def test_coco(write):
    assert read_caption_file(write("captions_val2017.json", COCO)) == [
        Example("b.jpg", ("A red bus",), None),
        Example("a.jpg", ("A dog.", "The dog"), None),
    ]


def test_karpathy(write):
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
def test_flickr_uses_the_split_lists_beside_it(write, names):
    for name, content in zip(names, ("a.jpg\r\n", "unknown.jpg\nb.jpg.1\n", "c.jpg"), strict=True):
        write(name, content)
    write("contestImages.txt", "d.jpg")
    assert [(example.image, example.split) for example in read_caption_file(write("Flickr8k.token.txt", FLICKR))] == [
        ("a.jpg", "train"),
        ("b.jpg.1", "val"),
        ("c.jpg", "test"),
    ]


def test_images_in_no_list_are_left_out(write):
    write("Flickr_8k.devImages.txt", "c.jpg\n")
    assert read_caption_file(write("Flickr8k.token.txt", FLICKR)) == [Example("c.jpg", ("A cat",), "val")]


def test_lists_that_are_named_take_the_place_of_those_found(write):
    write("Flickr_8k.devImages.txt", "c.jpg\n")
    path = write("Flickr8k.token.txt", FLICKR)
    chosen = write("lists/mine.txt", "a.jpg\n")
    assert read_caption_file(path, lists={"train": chosen}) == [Example("a.jpg", ("A dog .", "The dog"), "train")]
    assert [example.split for example in read_caption_file(path, lists={})] == [None, None, None]


def test_lists_overrule_the_splits_of_any_format(write):
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
def test_tables(write, name, content):
    assert read_caption_file(write(name, content)) == TABLE_EXAMPLES


def test_a_table_without_splits(write):
    kaggle = "image,caption\na.jpg,A dog .\na.jpg,The dog\nb.jpg,\n"
    assert read_caption_file(write("captions.txt", kaggle)) == [Example("a.jpg", ("A dog .", "The dog"))]
    indexed = ",image,caption\n0,a.jpg,A dog .\n"
    assert read_caption_file(write("indexed.csv", indexed)) == [Example("a.jpg", ("A dog .",))]


def test_flickr30k_results_csv_with_its_row_that_lacks_a_bar(write):
    content = "image_name| comment_number| comment\na.jpg| 0| A dog .\na.jpg| 4   A cat .\nb.jpg| 0| A bus, red .\n"
    assert read_caption_file(write("results.csv", content)) == [
        Example("a.jpg", ("A dog .",)),
        Example("b.jpg", ("A bus, red .",)),
    ]


def test_json_lines(write):
    expected = [Example("a.jpg", ("A dog", "The dog"), "train"), Example("b.jpg", ("A bus \u2014 red",), None)]
    assert read_caption_file(write("metadata.jsonl", LINES)) == expected
    assert read_caption_file(write("any name.txt", LINES)) == expected
    assert read_caption_file(write("one.json", LINES.partition("\n")[0])) == expected[:1]


def test_json_lines_under_other_keys(write):
    content = '{"Image": "x/a.jpg", "captions": ["A\u2028dog"], "other": [1, {}]}'
    assert read_caption_file(write("a.jsonl", content)) == [Example("x/a.jpg", ("A dog",))]


@pytest.mark.parametrize(("name", "content"), [("metadata.csv", TABLE), ("metadata.jsonl", LINES)])
def test_a_folder_is_read_by_its_metadata_file(write, name, content):
    path = write(f"folder/{name}", content)
    write("folder/a.jpg", b"")
    assert read_caption_file(path.parent) == read_caption_file(path)


def test_the_format_can_be_said(write):
    path = write("odd.jsonl", "file,text\na.jpg#0\tx,y\n")
    assert read_caption_file(path, format="csv") == [Example("a.jpg#0 x".replace(" ", "\t"), ("y",))]
    with pytest.raises(CaptionFileError, match="not JSON"):
        read_caption_file(path)


def test_backslashes_become_slashes(write):
    path = write("a.csv", "image,caption\ntrain\\a.jpg,A dog\ntrain//a.jpg,The dog\n")
    assert read_caption_file(path) == [Example("train/a.jpg", ("A dog", "The dog"))]


# Everything that can be wrong, and what the message must tell.


@pytest.mark.parametrize(
    "name", ["/etc/a.jpg", "../a.jpg", "x/../../a.jpg", "..\\a.jpg", "\\a.jpg", "C:\\a.jpg", "c:a"]
)
def test_names_that_lead_out_of_the_folder_are_refused(write, name):
    with pytest.raises(CaptionFileError, match=r"line 3: the image name .*inside the image folder"):
        read_caption_file(write("a.csv", f"image,caption\nb.jpg,A bus\n{name},A dog\n"))
    with pytest.raises(CaptionFileError, match=r"line 1: the image name .*inside the image folder"):
        read_caption_file(write("a.txt", f"{name}#0\tA dog"))
    image = {"filename": "a.jpg", "filepath": name, "sentences": []}
    with pytest.raises(CaptionFileError, match=r"images\[0\]: the image name .*inside the image folder"):
        read_caption_file(write("a.json", {"images": [image]}))


def changed(value, *path, to):
    """Return a copy of nested lists and dicts with one member replaced, or removed if `to` is KeyError."""
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
    ("nul.csv", b"image,caption\na\0.jpg,A dog\n", r"line 2: the image name 'a\\x00.jpg'"),
    ("nul.tsv", b"image\tcaption\na.jpg\tA\0dog\n", r"line 2: a caption .*'A\\x00dog'"),
    ("surrogate.jsonl", '{"image": "a.jpg", "caption": "\\ud800"}', r"line 1: a caption .*'\\ud800'"),
    ("header only.csv", "image,caption\n", "there is no caption in it"),
    ("blank captions.csv", "image,caption\na.jpg, \n", "there is no caption in it"),
    (
        "no image.csv",
        "title,caption\na,A dog\n",
        r"line 1: \['title', 'caption'\]; expected a name for the image \(file_",
    ),
    ("no caption.csv", "image,label\na.jpg,dog\n", r"line 1: .*one for the caption \(caption, .*text"),
    ("no header.csv", "a.jpg,A dog\n", r"line 1: \['a.jpg', 'a dog'\]; expected a name"),
    ("prose.txt", "A dog on a beach.\n", "line 1: .*expected a name"),
    ("commas.csv", ",,,\n,,\n", "line 1: .*expected a name"),
    ("unquoted.csv", "image,caption\na.jpg,A dog, red\n", "line 2: 3 cells, but the header has 2; .*quotation marks"),
    ("open quote.csv", 'image,caption\na.jpg,A dog\nb.jpg,"A bus\nc.jpg,A cat\n', "line 3: unexpected end of data"),
    ("bad quote.csv", 'image,caption\na.jpg,"A" dog\n', "line 2: .*quotation mark"),
    ("huge.csv", 'image,caption\na.jpg,"' + "x" * 200_000 + "\n", "line 2: field larger than field limit"),
    ("no name.csv", "image,caption\n,A dog\n", "line 2: the image name ''"),
    (
        "split.csv",
        "image,caption,split\na.jpg,A dog,train\nb.jpg,A,trian\n",
        "line 3: the split 'trian' .*one of: train",
    ),
    (
        "two splits.csv",
        "image,caption,split\na.jpg,A,train\na.jpg,B,val\n",
        "line 3: 'a.jpg' is in val here, but in train",
    ),
    ("a.token.txt", "a.jpg#0\tA dog\nb.jpg A bus\n", "line 2: 'b.jpg A bus'; expected NAME#NUMBER, a tab"),
    ("list.jsonl", "[1]\n", r"line 1: \[1\]; expected an object"),
    ("broken.jsonl", LINES + '{"file_name": \n', "line 4: not JSON: Expecting value"),
    ("no key.jsonl", LINES + '{"file_name": "a.jpg"}\n', r"line 4: \['file_name'\]; expected .*caption"),
    ("type.jsonl", '{"image": 1, "caption": "A"}', "line 1: 'image' is 1; expected text"),
    ("type2.jsonl", '{"image": "a.jpg", "caption": null}', "line 1: 'caption' is None; expected text or a list"),
    ("type3.jsonl", '{"image": "a.jpg", "caption": ["A", 2]}', "line 1: the caption 2; expected text"),
    ("type4.jsonl", '{"image": "a.jpg", "caption": "A", "split": 1}', "line 1: 'split' is 1; expected text or null"),
    ("broken.json", json.dumps(COCO, indent=1)[:-3], "line [0-9]+: not JSON: Expecting"),
    ("deep.json", '{"images": ' + "[" * 100_000, "the file: JSON that cannot be read: maximum recursion"),
    ("number.json", '{"images": ' + "1" * 5000, "the file: JSON that cannot be read: Exceeds the limit"),
    ("results.json", [{"image_id": 1, "caption": "A dog"}], "the file: .*expected an object with the key 'images'"),
    ("a.json", changed(COCO, "images", to={}), "the file: 'images' is {}; expected a list"),
    ("a.json", changed(COCO, "annotations", to=KeyError), "the file: the key 'annotations' is missing"),
    ("a.json", changed(COCO, "images", 1, to="a.jpg"), r"images\[1\]: 'a.jpg'; expected an object with the key 'id'"),
    ("a.json", changed(COCO, "images", 1, "id", to=[4]), r"images\[1\]: 'id' is \[4\]; expected a number or text"),
    ("a.json", changed(COCO, "images", 1, "id", to=9), r"images\[1\]: the id 9 occurs a second time"),
    ("a.json", changed(COCO, "images", 1, "file_name", to=KeyError), r"images\[1\]: the key 'file_name' is missing"),
    ("a.json", changed(COCO, "annotations", 2, "image_id", to=7), r"annotations\[2\]: the image_id 7 is the id of no"),
    ("a.json", changed(COCO, "annotations", 2, "caption", to=KeyError), r"annotations\[2\]: the key 'caption' is mis"),
    ("a.json", changed(COCO, "annotations", 2, "caption", to=3), r"annotations\[2\]: 'caption' is 3; expected text"),
    ("a.json", changed(KARPATHY, "images", 0, "split", to="all"), r"images\[0\]: the split 'all' is unknown"),
    (
        "a.json",
        changed(KARPATHY, "images", 1, "sentences", to=KeyError),
        r"images\[1\]: the key 'sentences' is missing",
    ),
    (
        "a.json",
        changed(KARPATHY, "images", 0, "sentences", 1, to="A"),
        r"images\[0\]\.sentences\[1\]: 'A'; expected an",
    ),
    ("a.json", changed(KARPATHY, "images", 0, "filepath", to=2014), r"images\[0\]: 'filepath' is 2014; expected text"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_what_is_wrong_is_told_in_one_line(write, name, content, message):
    path = write(name, content)
    with pytest.raises(CaptionFileError, match=message) as caught:
        read_caption_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 350


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(CaptionFileError, match=r"absent\.csv: cannot be read: No such file"):
        read_caption_file(tmp_path / "absent.csv")
    with pytest.raises(CaptionFileError, match=r"no metadata\.csv or \.jsonl in it; name a caption file"):
        read_caption_file(tmp_path)


def test_a_folder_with_two_metadata_files_is_refused(write):
    write("metadata.csv", TABLE)
    path = write("metadata.jsonl", LINES)
    with pytest.raises(CaptionFileError, match="are both in it"):
        read_caption_file(path.parent)


def test_an_unknown_format_is_refused(write):
    with pytest.raises(ConfigurationError, match="'xml' is unknown; expected one of: coco, karpathy, flickr, csv, tsv"):
        read_caption_file(write("a.csv", TABLE), format="xml")


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (
            {"trainImages.txt": "a.jpg", "devImages.txt": "c.jpg\na.jpg"},
            r"trainImages\.txt: line 1: 'a.jpg' is in the.*val",
        ),
        ({"trainImages.txt": "a\nb\n"}, r"trainImages\.txt: none of its lines .*expected names such as 'a\.jpg'"),
        (
            {"devImages.txt": "a.jpg", "valImages.txt": "c.jpg"},
            r"valImages\.txt: devImages\.txt .* is a list of val too",
        ),
        ({"devImages.txt": "../a.jpg"}, r"devImages\.txt: line 1: the image name"),
        ({"devImages.txt": b"\xff"}, r"devImages\.txt: line 1: not UTF-8"),
    ],
)
def test_lists_that_cannot_be_right_are_refused(write, lists, message):
    for name, content in lists.items():
        write(name, content)
    with pytest.raises(CaptionFileError, match=message):
        read_caption_file(write("Flickr8k.token.txt", FLICKR))


def test_a_list_of_an_unknown_split_is_refused(write):
    path = write("Flickr8k.token.txt", FLICKR)
    with pytest.raises(ConfigurationError, match="the split 'all' is unknown"):
        read_caption_file(path, lists={"all": path})


SAMPLES = {
    "a.json": json.dumps(COCO),
    "b.json": json.dumps(KARPATHY),
    "c.token.txt": FLICKR,
    "d.csv": TABLE,
    "e.jsonl": LINES,
    "f.tsv": TABLE.replace(",", "\t"),
}


def returns_or_explains(path):
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
def test_a_damaged_file_is_read_or_explained(tmp_path_factory, name, edits):
    content = SAMPLES[name].encode()
    for place, length, replacement in edits:
        start = round(place * len(content))
        content = content[:start] + replacement + content[start + length :]
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    returns_or_explains(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["raw", "caption", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value, path=()):
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


@settings(deadline=None, max_examples=300)
@given(data=st.data(), value=JSON | st.just(KeyError), sample=st.sampled_from([COCO, KARPATHY]))
def test_any_value_in_any_place_is_read_or_explained(tmp_path_factory, data, value, sample):
    place = data.draw(st.sampled_from(list(places(sample))))
    path = tmp_path_factory.getbasetemp() / "value.json"
    path.write_text(json.dumps(changed(sample, *place, to=value)))
    returns_or_explains(path)


# Splits.


def test_with_split():
    examples = [Example("a.jpg", ("A",)), Example("b.jpg", ("B", "C"), "train")]
    assert with_split(examples, "dev") == [Example("a.jpg", ("A",), "val"), Example("b.jpg", ("B", "C"), "val")]
    with pytest.raises(ConfigurationError, match="the split 'all' is unknown"):
        with_split(examples, "all")


def held(examples, **options):
    return {example.image for example in split_holdout(examples, **options) if example.split == "val"}


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(0, 0.1, 0), (1, 0.9, 0), (2, 0.1, 1), (2, 0.9, 1), (3, 0.01, 1), (20, 0.1, 2), (20, 0.25, 5), (1000, 0.1, 100)],
)
def test_hold_out_takes_the_share_and_leaves_both_sides_one(count, share, expected):
    examples = [Example(f"{number}.jpg", ("A",)) for number in range(count)]
    divided = split_holdout(examples, share=share)
    assert [example.image for example in divided] == [example.image for example in examples]
    assert sum(example.split == "val" for example in divided) == expected
    assert sum(example.split == "train" for example in divided) == count - expected


def test_hold_out_takes_the_images_with_the_smallest_sha256():
    # printf a.jpg | sha256sum, and so on: a 509b.., b 7a11.., c 92b3.., d 53e7..
    examples = [Example(f"{name}.jpg", ("A",)) for name in "abcd"]
    assert held(examples, share=0.5) == {"a.jpg", "d.jpg"}


def test_hold_out_goes_by_names_not_by_order_and_is_stable_as_the_data_grow():
    examples = [Example(f"{number}.jpg", ("A",)) for number in range(1000)]
    shuffled = random.Random(0).sample(examples, 1000)
    assert held(shuffled) == held(examples)
    assert len(held(examples) & held(examples[:900])) >= 80


def test_hold_out_refuses_examples_with_splits_and_impossible_shares():
    examples = [Example("a.jpg", ("A",)), Example("b.jpg", ("B",), "train")]
    with pytest.raises(ConfigurationError, match="in a split already"):
        split_holdout(examples)
    for share in (0, 1, -0.1, float("nan")):
        with pytest.raises(ConfigurationError, match="above 0 and below 1"):
            split_holdout(examples[:1], share=share)


# Captions and the image folder.


def test_match_images(write, tmp_path):
    for name in ("a.jpg", "train/b.JPG", "train/spare.png", "spare.jpg", "notes.txt", ".hidden.jpg"):
        write(f"images/{name}", b"")
    examples = [
        Example(name, ("A",)) for name in ("train/b.JPG", "gone.jpg", "a.jpg", "train/a.jpg", "b.JPG", "spare.JPG")
    ]
    matching = match_images(examples, tmp_path / "images")
    assert matching.found == (examples[0], examples[2])
    assert matching.missing == ("gone.jpg", "train/a.jpg", "b.JPG", "spare.JPG")
    assert matching.uncaptioned == ("spare.jpg", "train/spare.png")
    with pytest.raises(ImageError, match="absent': no such folder"):
        match_images(examples, tmp_path / "absent")
