"""The two decoders in plain PyTorch, with captions padded to 25 tokens.

    python _torch_captioners.py KIND OPTIMIZER BATCHES.npz STEPS

trains on the batches in turn, on a GPU in bfloat16 if available, and prints the duration of each step in seconds.
"""

import sys
import time

import numpy as np
import torch
from torch import nn

WARM_UP_STEPS = 3


class ShowAndTell(nn.Module):
    """An LSTM that reads the image and then the tokens."""

    def __init__(self, vocabulary_size: int, channels: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, 512)
        self.image = nn.Linear(channels, 512)
        self.lstm = nn.LSTM(512, 512, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.logits = nn.Linear(512, vocabulary_size)

    def forward(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Take features (N, G, D) and tokens (N, T); return logits (N, T, V)."""
        image = self.image(features.mean(dim=1))[:, None]
        output, _ = self.lstm(self.dropout(torch.cat([image, self.embedding(tokens)], dim=1)))
        logits: torch.Tensor = self.logits(self.dropout(output[:, 1:]))
        return logits


class ShowAttendTell(nn.Module):
    """An attention LSTM and a language LSTM, one LSTM cell step per token."""

    def __init__(self, vocabulary_size: int, channels: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, 512)
        self.cells = nn.Linear(channels, 512)
        self.image = nn.Linear(512, 512)
        self.attention = nn.LSTMCell(512, 512)
        self.query = nn.Linear(512, 512)
        self.language = nn.LSTMCell(1024, 512)
        self.dropout = nn.Dropout(0.5)
        self.logits = nn.Linear(512, vocabulary_size)

    def forward(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Take features (N, G, D) and tokens (N, T); return logits (N, T, V)."""
        cells = self.dropout(torch.relu(self.cells(features)))
        inputs = self.dropout(torch.cat([self.image(cells.mean(dim=1))[:, None], self.embedding(tokens)], dim=1))
        zeros = torch.zeros(len(tokens), 512, device=tokens.device)
        attention_state, language_state = (zeros, zeros), (zeros, zeros)
        logits = []
        for step in range(inputs.shape[1]):
            attention_state = self.attention(inputs[:, step], attention_state)
            weights = torch.softmax(cells @ self.query(attention_state[0])[:, :, None] / 512**0.5, dim=1)
            attended = torch.cat([attention_state[0], (weights * cells).sum(dim=1)], dim=1)
            language_state = self.language(self.dropout(attended), language_state)
            if step:
                logits.append(self.logits(self.dropout(language_state[0])))
        return torch.stack(logits, dim=1)


def main() -> None:
    """Train and print the duration of each step."""
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    kind, optimizer_name, path, steps = sys.argv[1:]
    with np.load(path) as arrays:
        features, captions = arrays["features"].astype(np.float32), arrays["captions"].astype(np.int64)
        vocabulary_size = int(arrays["vocabulary_size"])
    torch.manual_seed(0)
    kinds: dict[str, type[ShowAndTell] | type[ShowAttendTell]]
    kinds = {"show_and_tell": ShowAndTell, "show_attend_tell": ShowAttendTell}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = kinds[kind](vocabulary_size, features.shape[-1]).to(device)
    optimizer: torch.optim.Optimizer
    if optimizer_name == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
    else:
        optimizer = torch.optim.Adam(model.parameters(), 0.0005)
    for step in range(WARM_UP_STEPS + int(steps)):
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
        loss.item()  # waits for the GPU
        if step >= WARM_UP_STEPS:
            print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
