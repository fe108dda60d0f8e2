"""Write ptb_tokens.json: captions with the tokens of the tokenizer of coco-caption (needs Java)."""

import json
from pathlib import Path

from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

CAPTIONS = [
    "A brown dog chases a ball across wet sand.",
    "Two women , one in red , wait at a crossing .",
    "TWO KITES OVER A GREY SEA",
    "",
    "...",
    "A cat sleeps on the neighbour's car.",
    "A cat sleeps on the neighbour 's car .",
    "The horses' ears are up, and the rider's hat is off.",
    "He isn't looking; she can't see, and they won't wait.",
    "The lamp does n't burn .",
    "It's late: they're tired, I'm hungry, we've walked, you'd sit, she'll stay.",
    "You cannot park here, but he's gonna try and she wanna watch.",
    "'Tis a quiet bay.",
    "A 'closed' sign hangs on a \"pull\" door.",
    "“Welcome” is painted over the door of a child’s playhouse.",  # noqa: RUF001
    "A fish 'n' chips stand with a rock 'n roll band.",
    "An '80s van beside a 1950's tractor from the 1960s",
    "Five o'clock shadows fall on O'Brien's d'Orsay poster, ma'am.",
    "Surfers at Ka'anapali in Hawai'i",
    "Y'all, this is a cap'n's chair.",
    "A black-and-white, three-year-old collie in a T-shirt",
    "A well- worn path -- or a stream - in the hills",
    "A path—steep and narrow – leads up.",  # noqa: RUF001
    "A bench/table combination and/or a tub/shower in a black/white room",
    "A tray with a knife/fork and a / on it",
    "The clock reads 10:35, or 22:35; it's 7:05am.",
    "At 5 p.m. the market closes, and at 9 a.m. it opens.",
    "Lunch at 12pm under a 3.5 meter palm",
    "Some 1,500 people on a 10,000-acre farm, 50% of them on foot",
    "Half a pizza: 1/2 of it, or 3/4, or 2 1/4 slices",
    "Add ½ cup to 1½ cups",
    "It costs $20, or £15, or €18, or 99¢.",
    "Bus #42 and runner # 7 turn at the light",
    "A poster says #sunset and @home.",
    "A 2x4 board, 4-5 nails and an mp3 player on 5th street",
    "The thermometer shows -3 or +5 outside and .5 in the box",
    "Mr. and Mrs. Bear sit with Dr. Duck, Jr. at the table.",
    "Signs for St. James St. and Park Ave. at Hill Blvd. and Mill Rd.",
    "Ft. Hill and Mt. Pine vs. the sea, etc. in one picture",
    "A parade on Wed. in Dec. near the Wash. and Pa. state line",
    "A wash. And then to dry, with a miss.",
    "No. 5 is a blue tram, and there is no. one",
    "The U.S. and U.K. flags, a U.S.-built jet and a T.V. set",
    "A U.S.A team in Washington D.C., near the sea",
    "An A.T.V. jumps over W. 5th street",
    "A child holds the letter b. above her head",
    "A boat on the lake.Trees behind it.And a hut.",
    "An ad for ice-cream.example.com or tea.com, on a wall",
    "An AT&T van, R&B singers, salt & pepper and rock&roll",
    "A dog (small), a cat [big] and a {very odd} fish",
    "What?! A cow!! In a pool?? No!",
    "Is that a zebra? Yes, it is!",
    "A park., a lake.; and a hill.: all green",
    "A <unk> rides a <unk>'s horse",
    "An under_score, a * star **, a = sign, 20% + 5",
    "A café with crème brûlée and a piñata's tail",
    "Ein Hund läuft über die Straße",
    "Собака бежит по снегу. Кот спит.",
    "एक कुत्ता घास पर दौड़ता है",
    "A cafe\u0301 in the rain",
    "A beach \U0001f3d6 and a heart ❤\ufe0f and ice\U0001f366cream",
    "  Two   blanks\tand a tab  ",
    'A cyclist waits , " ready " to go , at the corner of 5th and Main St .',
]

if __name__ == "__main__":
    tokenized = PTBTokenizer().tokenize({index: [{"caption": caption}] for index, caption in enumerate(CAPTIONS)})
    # coco-caption splits at every space, even inside a token ("2 1/4").
    pairs = [{"caption": caption, "tokens": tokenized[index][0].split()} for index, caption in enumerate(CAPTIONS)]
    rows = ",\n".join(json.dumps(pair, ensure_ascii=False) for pair in pairs)
    Path(__file__).with_name("ptb_tokens.json").write_text(f"[\n{rows}\n]\n", encoding="utf-8")
