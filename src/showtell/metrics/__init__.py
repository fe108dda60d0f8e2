"""Caption metrics: BLEU, ROUGE-L, CIDEr and METEOR, with the same results as coco-caption.

`score_captions` scores text. The other functions take tokenised captions; see `tokenize`.
"""

from showtell.metrics.bleu import bleu
from showtell.metrics.cider import CiderD, DocumentFrequencies
from showtell.metrics.ngrams import Tokens
from showtell.metrics.rouge import rouge_l
from showtell.metrics.scores import Scores, score_captions
from showtell.metrics.tokenizer import tokenize

__all__ = ["CiderD", "DocumentFrequencies", "Scores", "Tokens", "bleu", "rouge_l", "score_captions", "tokenize"]
