"""The converters of llama.cpp and of mlx-lm, as they are: what they make gives the logits of the folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from ftsim.inspect.converters import GGUF, MLX, Converter
from ftsim.inspect.service import ServiceError
from tests.zoo import folders

pytestmark = pytest.mark.slow
TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]
MLX_LOGITS = """
import json, sys
import mlx.core as mx
from mlx_lm import load
model, _ = load(sys.argv[1])
print(json.dumps(model(mx.array([json.loads(sys.argv[2])]))[0].astype(mx.float32).tolist()))
"""


def needed(converter: Converter) -> None:
    try:
        converter.find()
    except ServiceError as error:
        pytest.skip(f"{error}; `tox -e converters` does so")


@torch.no_grad()
def logits(folder: Path, **how: str) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **how).eval()
    found: torch.Tensor = model(input_ids=torch.tensor([TOKENS])).logits[0]
    return found


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_mlx_gives_the_logits_of_the_folder(name: str, tmp_path: Path) -> None:
    needed(MLX)
    folder = folders.write(name, tmp_path / name)
    made = MLX.convert(folder)
    asked = [sys.executable, "-c", MLX_LOGITS, str(made), json.dumps(TOKENS)]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    found = torch.tensor(json.loads(done.stdout.splitlines()[-1]))
    assert float((found - logits(folder)).abs().max()) < 1e-4


@pytest.mark.parametrize("name", ["llama_bf16", "qwen2_bf16"])
def test_gguf_gives_the_logits_of_the_folder(name: str, tmp_path: Path) -> None:
    """A bfloat16 folder: the converter writes 16 bits a weight of its own accord."""
    needed(GGUF)
    folder = folders.write(name, tmp_path / name) if name in folders.ZOO else _qwen2(tmp_path)
    _sentence_pieces(folder)
    made = GGUF.convert(folder)
    assert float((logits(folder, gguf_file=made.name) - logits(folder)).abs().max()) < 1e-4


def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused_in_its_words(tmp_path: Path) -> None:
    needed(GGUF)
    folder = folders.write("qwen3", tmp_path / "qwen3")
    with pytest.raises(ServiceError, match=r"whose files are kept: .*pre-tokenizer was not recognized"):
        GGUF.convert(folder)
    assert not (folder / GGUF.output).exists()


def _qwen2(place: Path) -> Path:
    folder = folders.write("qwen2", place / "qwen2")
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def _sentence_pieces(folder: Path) -> None:
    """A tokenizer of a kind that the converter knows, in place of the zoo's own."""
    import io

    import sentencepiece

    for path in folder.glob("tokenizer*"):
        path.unlink()
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the quick brown fox jumps over the lazy dog"] * 50),
        model_writer=made,
        vocab_size=40,
        model_type="bpe",
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(made.getvalue())
