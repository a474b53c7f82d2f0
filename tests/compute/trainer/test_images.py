"""Datums with images: what they may hold, what is learned of them, and what is saved of a model that sees."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emulator.backend import BackendError, BaseModel, GenerateRequest, LoraSpec, ModelSpec
from emulator.core.images import PLACE, TEXT_ALONE
from ftsim.compute.checkpoints.source import open_model
from ftsim.compute.models.catalogue import base_folder
from ftsim.compute.sampler.replica import TorchReplica
from ftsim.compute.standins.tokenizer import open_tokenizer
from ftsim.compute.trainer.trainer import TorchTrainer
from tests.compute.trainer.conftest import ADAM, Start, gradients, same, tensor, weights
from tests.squares import SEES, TOKENS, chunk, square

COLOURS = ("red", "green", "blue", "yellow")
Open = Callable[..., TorchTrainer]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(SEES, tmp_path_factory.mktemp("bases"))


@pytest.fixture
def seeing(folder: Path) -> Open:
    """`seeing(rank=4)`: a trainer with one model "m" that sees; rank 0 trains all of it."""

    def make(rank: int = 0, context: int = 0) -> TorchTrainer:
        trainer = TorchTrainer(lambda _: folder, lora_rank=rank, max_context_length=context)
        trainer.create_model(ModelSpec("m", BaseModel(SEES), LoraSpec(rank) if rank else None))
        return trainer

    return make


def encode(folder: Path, text: str) -> list[int]:
    tokenizer = open_tokenizer(folder)
    assert tokenizer is not None
    return [int(one) for one in tokenizer.encode(text)]


def told(folder: Path, colour: str, *, whole: bool = True, image: bytes | None = None, **more: Any) -> dict[str, Any]:
    """A picture and the name of its colour: targets and weights have places for its tokens if `whole`."""
    before, pad, behind = PLACE.partition("<|image_pad|>")
    assert pad
    first = encode(folder, f"<|im_start|>user\n{before}")
    last = encode(folder, f"{behind}What colour?<|im_end|>\n<|im_start|>assistant\n")
    said = encode(folder, f"{colour}<|im_end|>")
    seen = [0] * TOKENS if whole else []
    targets = [*first, *seen, *last, *said][1:]
    weighted = [0.0] * (len(targets) - len(said)) + [1.0] * len(said)
    chunks = [
        {"type": "encoded_text", "tokens": first},
        chunk(image or square(colour), **{"expected_tokens": TOKENS, **more}),
        {"type": "encoded_text", "tokens": [*last, *said][:-1]},
    ]
    inputs = {"target_tokens": tensor(targets, "int64"), "weights": tensor(weighted)}
    return {"model_input": {"chunks": chunks}, "loss_fn_inputs": inputs}


def batch(*data: dict[str, Any], loss: str = "cross_entropy") -> dict[str, Any]:
    return {"data": list(data), "loss_fn": loss}


def colours(folder: Path, **more: Any) -> dict[str, Any]:
    return batch(*(told(folder, one, **more) for one in COLOURS))


@pytest.mark.parametrize("rank", [0, 8])
def test_it_learns_to_tell_colours(seeing: Open, folder: Path, rank: int) -> None:
    trainer, data = seeing(rank), colours(folder)
    blind = batch(*(told(folder, one, image=square("grey")) for one in COLOURS))
    first = trainer.forward("m", data)["metrics"]["loss:sum"]
    for _ in range(30):
        trainer.forward_backward("m", data)
        trainer.optim_step("m", {**ADAM, "learning_rate": 0.01 if rank else 0.003}, "num_loss_tokens")
    last = trainer.forward("m", data)["metrics"]["loss:sum"]
    assert last < first / 20
    # It looks: where all pictures are alike, the names of the colours cannot be told apart.
    assert trainer.forward("m", blind)["metrics"]["loss:sum"] > 20 * last


def test_gradients_reach_the_tower_of_a_model_that_is_trained_whole(seeing: Open, folder: Path) -> None:
    trainer = seeing()
    trainer.forward_backward("m", colours(folder))
    found = gradients(trainer)
    tower = [name for name in weights(trainer) if ".visual." in name]
    assert len(tower) > 20
    assert not [name for name in tower if name not in found or not found[name].abs().max() > 0]


def test_gradients_are_those_of_transformers(seeing: Open, folder: Path) -> None:
    trainer, datum = seeing(), told(folder, "red")
    found = trainer.forward_backward("m", batch(datum))
    model = open_model(folder, torch.float32)
    sight = trainer._model("m").sight
    assert sight is not None
    picture = sight.picture(square("red"))
    chunks = datum["model_input"]["chunks"]
    ids = torch.tensor([[*chunks[0]["tokens"], *[sight.pad] * TOKENS, *chunks[2]["tokens"]]])
    logits = model(
        input_ids=ids,
        pixel_values=torch.from_numpy(picture.patches),
        image_grid_thw=torch.tensor([[1, picture.height, picture.width]]),
        mm_token_type_ids=(ids == sight.pad).long(),
    ).logits
    targets = torch.tensor([datum["loss_fn_inputs"]["target_tokens"]["data"]])
    lp = torch.log_softmax(logits[0], -1).gather(1, targets[0][:, None])[:, 0]
    loss = -(lp * torch.tensor(datum["loss_fn_inputs"]["weights"]["data"])).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert found["metrics"]["loss:sum"] == pytest.approx(float(loss.detach()), rel=1e-5)
    own = gradients(trainer)
    for name, value in model.named_parameters():
        if value.grad is not None:
            assert torch.allclose(own[name], value.grad, rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("loss", ["cross_entropy", "ppo"])
def test_tensors_may_leave_out_the_places_of_images(seeing: Open, folder: Path, loss: str) -> None:
    trainers = [seeing(4), seeing(4)]
    answers = []
    for trainer, whole in zip(trainers, (True, False), strict=True):
        datum = told(folder, "red", whole=whole)
        if loss == "ppo":
            inputs = datum["loss_fn_inputs"]
            inputs["advantages"] = inputs.pop("weights")
            inputs["logprobs"] = tensor([-1.0] * len(inputs["advantages"]["data"]))
        answers.append(trainer.forward_backward("m", batch(datum, loss=loss)))
    assert same(*map(gradients, trainers))
    assert answers[0]["metrics"] == answers[1]["metrics"]
    full, short = (one["loss_fn_outputs"][0]["logprobs"]["data"] for one in answers)
    before = len(told(folder, "red")["model_input"]["chunks"][0]["tokens"])
    # Where the image comes next the two forms name other targets, which neither trains.
    assert short[: before - 1] + short[before:] == full[: before - 1] + full[before + TOKENS :]


def test_datums_with_images_and_without_are_computed_as_if_alone(seeing: Open, folder: Path, start: Start) -> None:
    plain = told(folder, "red")
    text = {
        "model_input": {"chunks": [{"tokens": [5, 6, 7, 8]}]},
        "loss_fn_inputs": {"target_tokens": tensor([6, 7, 8, 9], "int64")},
    }
    wide = told(folder, "blue", image=square("blue", (640, 320)), whole=False, expected_tokens=200)
    trainer = seeing(4)
    alone = [trainer.forward("m", batch(one))["loss_fn_outputs"][0] for one in (plain, text, wide)]
    together = trainer.forward("m", batch(plain, text, wide))["loss_fn_outputs"]
    for one, other in zip(alone, together, strict=True):
        assert one["logprobs"]["shape"] == other["logprobs"]["shape"]
        assert one["logprobs"]["data"] == pytest.approx(other["logprobs"]["data"], abs=1e-5)


def test_vectors_depend_on_the_picture(seeing: Open, folder: Path) -> None:
    trainer = seeing(4)
    found = [
        trainer.forward("m", {**batch(told(folder, one)), "loss_fn_config": {"output": "embedding"}})
        for one in ("red", "blue")
    ]
    one, other = (answer["loss_fn_outputs"][0]["embedding"]["data"] for answer in found)
    assert one != other


def changed(folder: Path, **more: Any) -> dict[str, Any]:
    datum = told(folder, "red")
    datum["model_input"]["chunks"][1] |= more
    return datum


def trained_everywhere(folder: Path) -> dict[str, Any]:
    datum = told(folder, "red")
    del datum["loss_fn_inputs"]["weights"]
    return datum


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: changed(folder, expected_tokens=63), "64 tokens here, and expected_tokens is 63"),
        (lambda folder: changed(folder, data="!"), "not base64"),
        (lambda folder: changed(folder, data="aGk="), "no PNG or JPEG that opens"),
        (lambda folder: changed(folder, format="webp"), "send png or jpeg"),
        (lambda folder: changed(folder, type="image_asset_pointer"), "nothing is fetched here"),
        (lambda folder: changed(folder, override_dimensions={"width": 64, "height": 64}), "override_dimensions"),
        (trained_everywhere, "'weights' must be 0 where an image comes next"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(
    seeing: Open, folder: Path, make: Callable[[Path], dict[str, Any]], said: str
) -> None:
    with pytest.raises(BackendError, match=f"datum 0: .*{said}"):
        seeing(4).forward_backward("m", batch(make(folder)))


def test_a_place_without_an_image_and_a_context_that_is_full_are_refused(seeing: Open, folder: Path) -> None:
    datum = told(folder, "red")
    datum["model_input"]["chunks"][0]["tokens"][-1] = encode(folder, "<|image_pad|>")[0]
    with pytest.raises(BackendError, match="a text chunk has the token"):
        seeing(4).forward("m", batch(datum))
    with pytest.raises(BackendError, match="longer than the context of 64"):
        seeing(4, 64).forward("m", batch(told(folder, "red")))


def test_a_model_that_reads_text_alone_refuses_images_in_one_sentence(start: Start, folder: Path) -> None:
    for kind in ("image", "image_asset_pointer"):
        with pytest.raises(BackendError, match=f"^datum 0: {TEXT_ALONE}$"):
            start("dense").forward("m", batch(changed(folder, type=kind)))


@pytest.mark.parametrize("rank", [0, 4])
def test_it_is_saved_resumed_and_served_as_it_was_trained(
    seeing: Open, folder: Path, tmp_path: Path, rank: int
) -> None:
    trainer, data = seeing(rank), colours(folder)
    for _ in range(2):
        trainer.forward_backward("m", data)
        trainer.optim_step("m", ADAM, None)
    state = tmp_path / "state"
    state.mkdir()
    trainer.save_state("m", state)
    again = seeing(rank)
    again.load_state("m", state, optimizer=True)
    for one in (trainer, again):
        one.forward_backward("m", data)
        one.optim_step("m", ADAM, None)
    assert same(weights(trainer), weights(again))
    for save in ("base", "merged_base") if rank else ("base",):
        served = tmp_path / save
        served.mkdir()
        trainer.save_sampler("m", served, identity=save, checkpoint_type=save)
        replica = TorchReplica(folder)
        load = replica.load_adapter if rank and save == "base" else replica.load_base
        load(served, save)
        datum = told(folder, "red")
        text = [one.get("tokens", []) for one in datum["model_input"]["chunks"]]
        prompt = replica.expand([*text[0], *replica.encode("<|image_pad|>"), *text[2]], [square("red")])
        request = GenerateRequest(prompt, images=[square("red")], max_tokens=1, echo=True)
        echoed = [token.logprob for token in replica.generate(request).result().prompt_tokens][1:]
        replica.close()
        trained = trainer.forward("m", batch(datum))["loss_fn_outputs"][0]["logprobs"]["data"][:-1]
        behind = len(text[0]) + TOKENS
        assert echoed[behind:] == pytest.approx(trained[behind:], abs=1e-4)
    if not rank:
        assert (tmp_path / "base" / "preprocessor_config.json").exists()
