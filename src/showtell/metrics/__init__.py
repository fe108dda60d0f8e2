"""Caption metrics: BLEU, ROUGE-L, CIDEr and METEOR."""
