"""The seeded recipe that turns a fresh tiny model into a base model that speaks simple English and ChatML."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from ftsim.compute.models import corpus
from ftsim.compute.models.tokenizer import END_OF_TEXT, IM_END, IM_START

if TYPE_CHECKING:
    import torch

HELD_OUT_SEED = 1_000_003


@dataclass(frozen=True)
class Recipe:
    """Says how long and on what a base model is pre-trained; `length` in tokens, `learning_rate` at its peak."""

    steps: int = 2500
    batch: int = 16
    length: int = 128
    learning_rate: float = 5e-3
    warmup: int = 50
    seed: int = 0


def render(chat: corpus.Chat, *, think: bool) -> str:
    """ChatML as the template writes it; `think` puts the empty thought in front of the last answer."""
    turns = [f"{IM_START}{message['role']}\n{message['content']}{IM_END}\n" for message in chat]
    if think:
        turns[-1] = turns[-1].replace("assistant\n", "assistant\n<think>\n\n</think>\n\n", 1)
    return "".join(turns)


def documents(seed: int) -> Iterator[str]:
    """An endless stream of chats and plain texts, each ending as a document ends."""
    random = Random(f"documents-{seed}")
    for part in range(1_000_000):
        texts, chats = corpus.texts(seed * 7919 + part, 512), corpus.chats(seed * 7919 + part, 512)
        for text, chat in zip(texts, chats, strict=True):
            yield render(chat, think=random.random() < 0.3)
            if random.random() < 0.5:
                yield text + END_OF_TEXT


def rows(tokenizer: Tokenizer, seed: int, length: int) -> Iterator[list[int]]:
    """Endless rows of `length + 1` token ids; each row starts with a document and the last one is cut."""
    row: list[int] = []
    stream = documents(seed)
    while True:
        for encoding in tokenizer.encode_batch_fast(list(islice(stream, 512))):
            row += encoding.ids
            if len(row) > length:
                yield row[: length + 1]
                row = []


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * (0.05 + 0.475 * (1 + math.cos(math.pi * done)))


def train(
    model: "torch.nn.Module", tokenizer: Tokenizer, recipe: Recipe, *, stop_after: int | None = None
) -> list[float]:
    """Pre-train `model` in place and return the loss of every step (nats per token).

    `stop_after` ends the run early without changing the schedule.
    """
    import torch
    from torch.nn.functional import cross_entropy

    decayed = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95))
    stream = rows(tokenizer, recipe.seed, recipe.length)
    model.train()
    losses = []
    for step in range(recipe.steps if stop_after is None else stop_after):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        batch = torch.tensor(list(islice(stream, recipe.batch)))  # (B, T + 1)
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits  # (B, T, V)
        loss = cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


def held_out_loss(model: "torch.nn.Module", tokenizer: Tokenizer, *, rows_used: int = 128, length: int = 128) -> float:
    """Mean loss (nats per token) on text of a seed that no recipe trains on."""
    import torch
    from torch.nn.functional import cross_entropy

    batch = torch.tensor(list(islice(rows(tokenizer, HELD_OUT_SEED, length), rows_used)))
    with torch.inference_mode():
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
        return cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).item()


def unigram_entropy(tokenizer: Tokenizer, *, rows_used: int = 128, length: int = 128) -> float:
    """The score of a model that only knows how often each token occurs, on the held-out text (nats per token)."""
    counts: dict[int, int] = {}
    total = 0
    for row in islice(rows(tokenizer, HELD_OUT_SEED, length), rows_used):
        for token in row[1:]:
            counts[token] = counts.get(token, 0) + 1
            total += 1
    return -sum(count / total * math.log(count / total) for count in counts.values())
