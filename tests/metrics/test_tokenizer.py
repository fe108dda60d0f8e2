import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.metrics import tokenize

PTB = json.loads((Path(__file__).with_name("ptb_tokens.json")).read_text(encoding="utf-8"))


@pytest.mark.parametrize("example", PTB, ids=range(len(PTB)))
def test_tokens_equal_those_of_the_stanford_tokenizer(example):
    assert tokenize(example["caption"]) == example["tokens"]


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("犬が草の上を走る。", "犬 が 草 の 上 を 走 る 。"),
        ("一只红色的圆，在 T恤 上", "一 只 红 色 的 圆 ， 在 t 恤 上"),  # noqa: RUF001
        ("หมาวิ่ง", "ห ม า ว ิ ่ ง"),
        ("دائرة حمراء", "دائرة حمراء"),
        ("빨간 원", "빨간 원"),
    ],
)
def test_characters_of_scripts_without_spaces_are_tokens(caption, tokens):
    assert tokenize(caption) == tokens.split()


@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
def test_the_stored_tokens_equal_the_output_of_java():
    module = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    captions = {index: [{"caption": example["caption"]}] for index, example in enumerate(PTB)}
    tokenized = module.PTBTokenizer().tokenize(captions)
    assert [tokenized[index][0].split() for index in range(len(PTB))] == [example["tokens"] for example in PTB]


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=40) | st.text(alphabet="aZé1½.,-'/&!? <>()\u0bbe\u0b95\n", max_size=40))
def test_tokens_are_lower_case_without_whitespace(caption):
    for token in tokenize(caption):
        assert token
        assert token.split() == [token]
        assert token == token.lower()
        assert token not in {".", ",", "'", '"', "-", ":", ";", "!", "?"}


@pytest.mark.parametrize("piece", ["\u0b95\u0bbe", "a-", "a.", "1,", "ae'", "a&", "<a", "!?", "no. "])
def test_long_repetitive_text_is_tokenized_in_linear_time(piece):
    assert len("".join(tokenize(piece * 20_000))) <= 20_000 * len(piece)


def test_a_lone_surrogate_is_dropped():
    assert tokenize("a sunny \ud83c beach") == ["a", "sunny", "beach"]
