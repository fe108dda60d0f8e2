"""The tokenizer of coco-caption, without Java.

coco-caption runs the Stanford PTBTokenizer with `-lowerCase` and drops punctuation. Published scores depend on its
details: "St." keeps its dot, "don't" becomes "do n't", and brackets become "-lrb-" and "-rrb-". This module reproduces
them. It was written by observing the output of that program.

One difference is intended. In scripts without spaces between words, the Java program treats a whole caption as one
token, so a caption could only be entirely right or entirely wrong. Here, each character of such a script is a token.
"""

import re
from functools import cache

_NORMAL = str.maketrans(
    {"’": "'", "\u00ad": None, "€": " $ ", "£": " # ", "¢": " cents "}  # noqa: RUF001
    | {"½": " 1/2 ", "¼": " 1/4 ", "¾": " 3/4 ", "⅓": " 1/3 ", "⅔": " 2/3 "}
)

# Thai, Lao, Tibetan, Burmese, Khmer, Japanese and Chinese.
_WITHOUT_SPACES = re.compile(
    "([\u0e00-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff])"
)

# Combining marks belong to the preceding letter, but \w does not match them.
_MARKS = "\u0300-\u036f\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0980-\u0dff\u0e30-\u0e4e"
_ALNUM = rf"(?:(?!_)[\w{_MARKS}])"
_LETTER = rf"(?:(?![\d_])[\w{_MARKS}])"
_PIECE = rf"(?:\d+(?:[.,]\d+)+|{_ALNUM}+)"
_END = rf"(?!{_ALNUM})"
_ENDING = rf"(?:s|m|d|re|ve|ll){_END}"

_ABBREVIATION = (
    "jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thurs?|fri|mrs?|ms|drs?|profs?|gen|col|lt|sgt|capt"
    "|cmdr|gov|sens?|reps?|rev|hon|pres|[sj]r|esq|maj|pvt|cpl|adm|supt|insp|messrs|mme|mlle|st|mt|ft|ave|blvd|rd"
    r"|sq|ct|bldg|inc|corp?|ltd|bros|cos|plc|assn|dept|univ|intl|natl|est|vs|etc|al|cf|ext|tel|ph\.d"
    "|ala|ariz|calif|colo|conn|fla|ga|ind|kans?|ky|md|mich|minn|mont?|neb|nev|okla|penn|tenn|vt|va|wis|wyo"
)

_TOKEN = rf"""
      </?[a-z][^<>\s]*>                                                  # <unk>
    | {_LETTER}+?(?=n't{_END}) | n't{_END} | '{_ENDING}                  # do n't, it 's
    | 't(?=(?:is|was){_END})                                             # 't is
    | 'n' | '(?:n|em|till?|cause|\d\ds){_END}                            # rock 'n' roll, '80s
    | [-+]?[.,:]\d+(?:[.,:]\d+)* | [-+]\d+(?:[.,:]\d+)* | \d+(?::\d+)+   # .5, -3, 10:30
    | (?: {_LETTER}(?:\.{_LETTER})*\.                                    # U.S., p.m.
        | (?:{_ABBREVIATION})\.
        | (?-i:Ark|Del|Ill|La|Mass|Miss|Ore|Pa|Tex|Wash)\.               # lower-case, these are words
      )(?!{_LETTER})(?:-{_ALNUM}+)*                                      # U.S.-based
    | (?:nos?|figs?|pp|art|op|ca)\.(?=\s*\d)                             # no. 5
    | {_LETTER}{_ALNUM}*(?:[.!?]{_LETTER}{_ALNUM}*)+                     # example.com; a full stop without a space
    | {_ALNUM}+(?:-{_ALNUM}+)*\.(?=[,:;])
    | (?-i:[A-Z]+(?:&[A-Z]+)+)                                           # AT&T
    | (?:[dlno]|qu)'(?!{_ENDING}){_LETTER}{{2,}}                         # o'clock, l'eau
    | {_LETTER}+[aeiou]'[aeiou]{_LETTER}*                                # ma'am, Hawai'i
    | (?-i:[A-Z]'[A-Z]){_LETTER}+ | c'mon | s'mores | cap'n | ol'{_END}
    | [djly]'(?!{_ENDING})(?={_LETTER})                                  # y' all
    | [\#@]{_LETTER}+
    | {_PIECE}(?:[-/_]{_PIECE})*                                         # dog, T-shirt, black/white, 1,000-acre
    | [!?]{{2,}} | ([*_\#@])\1*
    | [^\s\u200b-\u200f\ud800-\udfff\ufe0f\ufeff\U00010000-\U0010ffff]   # no emoji, no lone surrogates
    """

_DROPPED = frozenset(".,;:?!-–—―…'\"`‘“”«»‹›")  # noqa: RUF001
_REPLACED = (
    {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
    | {"cannot": "can not", "gonna": "gon na", "gotta": "got ta", "wanna": "wan na"}
    | {"gimme": "gim me", "lemme": "lem me"}
)


@cache
def _token_pattern() -> re.Pattern[str]:
    # Compiled on first use because it takes 15 ms.
    return re.compile(_TOKEN, re.VERBOSE | re.IGNORECASE)


def tokenize(caption: str) -> list[str]:
    """Return the tokens of a caption: lower-case, without punctuation, as coco-caption scores them.

    The tokens equal those of the Stanford PTBTokenizer 3.4.1, as called by pycocoevalcap, for all but 3 of 59,979
    captions of COCO and Flickr8k (benchmarks/tokens.py). Web addresses, smileys, HTML entities and telephone numbers
    get no special treatment. In scripts without spaces, each character is a token. Tokens never contain whitespace.

    Examples:
        >>> tokenize("The man's dog doesn't bark.")
        ['the', 'man', "'s", 'dog', 'does', "n't", 'bark']
    """
    spaced = caption if caption.isascii() else _WITHOUT_SPACES.sub(r" \1 ", caption.translate(_NORMAL))
    tokens = (match[0].lower() for match in _token_pattern().finditer(spaced))
    return " ".join(_REPLACED.get(token, token) for token in tokens if token not in _DROPPED).split()
