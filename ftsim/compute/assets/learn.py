"""`python -m ftsim.compute.assets.learn [ARCHITECTURE FAMILY]`: learn the rows of the families' markers again.

The base models were pre-trained with Qwen3's markers. A family whose markers are others gets its own 26 rows of the
embedding and of the output layer; everything else of the weights is frozen and shared. So every base model answers in
its family's template, and a family costs 7 kB for each architecture that stands in for it.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from emulator.core import catalogue as table
from ftsim.compute.assets import FOLDER, MARKERS
from ftsim.compute.models import corpus, families, tokenizer, vision
from ftsim.compute.models.families import FAMILIES, PLACES, Family

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STEPS, BATCH, LENGTH, LEARNING_RATE = 400, 16, 160, 0.02


def pairs() -> list[tuple[str, str]]:
    """Every architecture with every set of markers that it is served with, other than Qwen3's."""
    found = set()
    for rule in table.FAMILIES:
        for _, stand_in in (rule.dense, rule.sparse):
            found.add((_weights(stand_in), families.family_of(rule.start).rows))
    for facts in table.table().models.values():
        found.add((_weights(facts.stand_in), families.family_of(facts.name).rows))
    return sorted(pair for pair in found if pair[1] != "qwen3")


def _weights(stand_in: str) -> str:
    return vision.TEXT if stand_in == vision.ARCHITECTURE else stand_in


def rows(members: Sequence[Family], seed: int) -> Iterator[tuple[list[int], int]]:
    """Endless chats and texts of at most `LENGTH` token ids, each with the number of those that were given."""
    from transformers import AutoTokenizer

    with TemporaryDirectory() as place:
        spoken: list[tuple[Any, list[int]]] = []
        for family in members:
            (folder := Path(place) / family.name).mkdir()
            tokenizer.write_folder(folder, 4096, family)
            stops = [tokenizer.special_id(token, family) for token in family.ends]
            spoken.append((AutoTokenizer.from_pretrained(folder), stops[:2]))
        random = Random(f"rows-{seed}")
        for part in range(1_000_000):
            chats, texts = corpus.chats(seed * 7919 + part, 512), corpus.texts(seed * 7919 + part, 512)
            for chat, text in zip(chats, texts, strict=True):
                one, stops = random.choice(spoken)
                settings = {"enable_thinking": False} if random.random() < 0.5 else {}
                given, said = _parted(one, chat, settings, stops)
                yield (given + said)[:LENGTH], len(given)
                if random.random() < 0.3:
                    yield [*one.encode(text), one.eos_token_id][:LENGTH], 1


def _parted(spoken: Any, chat: corpus.Chat, settings: dict[str, bool], stops: list[int]) -> tuple[list[int], list[int]]:
    """The tokens of the prompt and those of the answer; a thought that the prompt opens is closed at once.

    Where the template writes no end of a turn the answer ends with the family's first stop.
    """
    asked = spoken.apply_chat_template(chat[:-1], tokenize=False, add_generation_prompt=True, **settings)
    whole = spoken.apply_chat_template(chat, tokenize=False, **settings)
    # Some templates write another empty thought than the one that their prompt opens.
    other = "</think>" + whole.rpartition("</think>")[2]
    answer = whole[len(asked) :] if whole.startswith(asked) else other
    given, said = (spoken.encode(text, add_special_tokens=False) for text in (asked, answer))
    ends = [at for at, token in enumerate(said) if token in stops]
    return given, said[: ends[0] + 1] if ends else [*said, stops[-1]]


def learn(model: "PreTrainedModel", members: Sequence[Family], *, steps: int = STEPS, seed: int = 0) -> list[float]:
    """Train the last rows of embedding and output layer in place; returns the loss of every step."""
    import torch
    from torch.nn.functional import cross_entropy

    layers = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    model.requires_grad_(False)
    for layer in layers:
        layer.requires_grad_(True)
        layer.register_hook(_only_markers)
    optimizer = torch.optim.Adam(layers, lr=LEARNING_RATE)
    stream, losses = rows(members, seed), []
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / steps)
        batch = list(islice(stream, BATCH))
        longest = max(len(tokens) for tokens, _ in batch)
        inputs = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens, _ in batch])  # (B, T)
        targets = torch.full_like(inputs, -100)
        for at, (tokens, given) in enumerate(batch):
            targets[at, given : len(tokens)] = inputs[at, given : len(tokens)]
        logits = model(input_ids=inputs[:, :-1], use_cache=False).logits  # (B, T - 1, V)
        loss = cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=-100)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


def _only_markers(gradient: Any) -> Any:
    """The gradient without what would move a word."""
    gradient[:-PLACES] = 0
    return gradient


def main(arguments: list[str]) -> None:
    """Learn the pairs named, or all, and say what came out."""
    import numpy as np
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    MARKERS.mkdir(exist_ok=True)
    for architecture, name in [(arguments[0], arguments[1])] if arguments else pairs():
        started = time.perf_counter()
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(FOLDER / architecture, dtype=torch.float32)
        members = [family for family in FAMILIES.values() if family.rows == name]
        losses = learn(model, members)
        learned = {
            "embedding": model.get_input_embeddings().weight[-PLACES:].detach().half().contiguous(),
            "output": model.get_output_embeddings().weight[-PLACES:].detach().half().contiguous(),
        }
        save_file(learned, MARKERS / f"{architecture}-{name}.safetensors")
        seconds = time.perf_counter() - started
        print(
            f"{architecture} {name}: loss {np.mean(losses[:5]):.3f} to {np.mean(losses[-20:]):.3f} in {seconds:.0f} s"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
