"""The same two captioners in plain PyTorch, as one would write them: captions padded to 25, a step at a time.

As a program: `python _torch_captioners.py KIND OPTIMIZER BATCHES.npz STEPS` trains on the batches in turn, on a GPU in
bfloat16 if there is one, and prints the seconds of each step, after some that warm up.
"""

import sys
import time

import numpy as np
import torch
from torch import nn

WARM_UP = 3


class ShowAndTell(nn.Module):
    """An LSTM that reads the image, then the caption."""

    def __init__(self, words: int, channels: int):
        super().__init__()
        self.words = nn.Embedding(words, 512)
        self.image = nn.Linear(channels, 512)
        self.lstm = nn.LSTM(512, 512, batch_first=True)
        self.drop = nn.Dropout(0.3)
        self.logits = nn.Linear(512, words)

    def forward(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Take features (N, G, D) and tokens (N, T); return logits (N, T, V)."""
        image = self.image(features.mean(dim=1))[:, None]
        output, _ = self.lstm(self.drop(torch.cat([image, self.words(tokens)], dim=1)))
        logits: torch.Tensor = self.logits(self.drop(output[:, 1:]))
        return logits


class ShowAttendTell(nn.Module):
    """An attention LSTM and a language LSTM in cells, one word after the other."""

    def __init__(self, words: int, channels: int):
        super().__init__()
        self.words = nn.Embedding(words, 512)
        self.cells = nn.Linear(channels, 512)
        self.image = nn.Linear(512, 512)
        self.attention = nn.LSTMCell(512, 512)
        self.query = nn.Linear(512, 512)
        self.language = nn.LSTMCell(1024, 512)
        self.drop = nn.Dropout(0.5)
        self.logits = nn.Linear(512, words)

    def forward(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Take features (N, G, D) and tokens (N, T); return logits (N, T, V)."""
        cells = self.drop(torch.relu(self.cells(features)))
        words = self.drop(torch.cat([self.image(cells.mean(dim=1))[:, None], self.words(tokens)], dim=1))
        zeros = torch.zeros(len(tokens), 512, device=tokens.device)
        asking, telling = (zeros, zeros), (zeros, zeros)
        logits = []
        for place in range(words.shape[1]):
            asking = self.attention(words[:, place], asking)
            weights = torch.softmax(cells @ self.query(asking[0])[:, :, None] / 512**0.5, dim=1)
            looked = torch.cat([asking[0], (weights * cells).sum(dim=1)], dim=1)
            telling = self.language(self.drop(looked), telling)
            if place:
                logits.append(self.logits(self.drop(telling[0])))
        return torch.stack(logits, dim=1)


def main() -> None:
    """Train, and print what each step took."""
    kind, optimizer_name, path, steps = sys.argv[1:]
    with np.load(path) as arrays:
        features, captions, words = (
            arrays["features"].astype(np.float32),
            arrays["captions"].astype(np.int64),
            int(arrays["words"]),
        )
    torch.manual_seed(0)
    kinds: dict[str, type[ShowAndTell] | type[ShowAttendTell]]
    kinds = {"show_and_tell": ShowAndTell, "show_attend_tell": ShowAttendTell}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = kinds[kind](words, features.shape[-1]).to(device)
    optimizer: torch.optim.Optimizer
    if optimizer_name == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
    else:
        optimizer = torch.optim.Adam(model.parameters(), 0.0005)
    for step in range(WARM_UP + int(steps)):
        batch, tokens = torch.from_numpy(features), torch.from_numpy(captions[step % len(captions)])
        began = time.perf_counter()
        batch, tokens = batch.to(device), tokens.to(device)
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            logits = model(batch, tokens[:, :-1])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=0)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        loss.item()  # which waits for a GPU
        if step >= WARM_UP:
            print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
