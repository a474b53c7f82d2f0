"""Direct preference optimisation (Rafailov et al. 2023): `main(Config(...))` trains, saves, resumes and promotes."""

from dataclasses import dataclass, field
from typing import Any

from ftsim.training.checkpoints.identity import check_rows
from ftsim.training.checkpoints.manager import TrainingCheckpoints
from ftsim.training.checkpoints.promotion import check_model_is_free
from ftsim.training.config import check_at_least, check_choice, check_common, check_evaluation, phase_of
from ftsim.training.data.batches import Step, build_plan, steps_done
from ftsim.training.data.preferences import Pair, as_data, load_split
from ftsim.training.errors import ConfigError
from ftsim.training.metrics import RunLog
from ftsim.training.preference_losses import ACCURACIES, dpo_loss, evaluate
from ftsim.training.reference import REFERENCES, add_reference
from ftsim.training.schedule import learning_rate
from ftsim.training.steps import CustomLoss, submit_custom
from ftsim.training.trainers import close_finished, connect, context_length, job_id_for, training_client
from ftsim.training.utils import InfraConfig, WeightSyncConfig

METRICS = ("loss", "accuracy", "margin", "chosen", "rejected")


@dataclass
class Config:
    """A preference run. `log_path` identifies it: the same path resumes, another one is another run."""

    log_path: str
    """Folder for dataloader.json, rows.json, reference.json, metrics.jsonl, loss.png and accuracy.png."""
    base_model: str
    """Resource name of the model to train."""
    dataset: str
    """JSONL file of {"chosen": {"messages": [...]}, "rejected": {"messages": [...]}} or prompt/chosen/rejected rows."""
    tokenizer_model: str
    """Hugging Face name or folder of the tokenizer."""
    beta: float = 0.1
    """Strength of the pull towards the reference model."""
    label_smoothing: float = 0.0
    """Share of the preferences taken to be wrong."""
    reference: str = "start"
    """The reference model: "start" is the policy before its first step, "base" the base model."""
    output_model_id: str | None = None
    """Promote the final checkpoint to this model id."""
    init_from_checkpoint: str | None = None
    """Start from the weights of "job-id:checkpoint-name", at step 0."""
    warm_start_from_adapter: str | None = None
    """Start a LoRA run from a promoted adapter (accounts/<account>/models/<model>)."""
    trainer_job_id: str | None = None
    """Use this job, which exists and is not released at the end; None derives one from log_path."""
    lora_rank: int = 0
    """Rank of the adapter; 0 trains all parameters."""
    lora_alpha: int = 32
    """Scale of the adapter."""
    learning_rate: float = 1e-5
    """Highest learning rate."""
    lr_schedule: str = "constant"
    """What follows the warm-up: constant, linear or cosine."""
    warmup_steps: int = 0
    """Steps over which the rate rises from zero."""
    min_lr_ratio: float = 0.0
    """Where linear and cosine end, as a share of learning_rate."""
    epochs: int = 1
    """Passes over the data."""
    batch_size: int = 8
    """Pairs per forward_backward_custom."""
    gradient_accumulation_steps: int = 1
    """Micro-batches per optimizer step."""
    max_seq_len: int | None = None
    """Longest side of a pair in tokens; None takes what the training shape allows."""
    truncate: bool = True
    """Cut longer sides; False leaves the pair out. Both are counted."""
    max_examples: int | None = None
    """Read at most this many pairs."""
    eval_split: float = 0.0
    """Share of the pairs held out for evaluation."""
    eval_dataset: str | None = None
    """File of pairs for evaluation, instead of eval_split."""
    eval_interval: int = 0
    """Evaluate every N steps; 0 = before the first and after the last only."""
    beta1: float = 0.9
    """AdamW, as are the next three."""
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    grad_clip_norm: float = 1.0
    """Largest gradient norm; 0 = no clipping."""
    seed: int = 0
    """Fixes the order of the pairs, the held-out pairs and the adapter's initial weights."""
    infra: InfraConfig = field(default_factory=InfraConfig)
    weight_sync: WeightSyncConfig = field(default_factory=WeightSyncConfig)

    def __post_init__(self) -> None:
        check_common(self)
        check_evaluation(self)
        check_choice("reference", self.reference, REFERENCES)
        check_at_least(self, {"beta": 0, "label_smoothing": 0})
        if self.label_smoothing >= 0.5:
            raise ConfigError("label_smoothing must be below 0.5, where a preference says nothing")


def main(config: Config) -> dict[str, Any]:
    """Run, or go on with, the training `config` describes; returns job id, steps and promoted model."""
    manager = connect()
    max_seq_len = context_length(manager, config)
    job_id = config.trainer_job_id or job_id_for("dpo", config.log_path)
    checkpoints = TrainingCheckpoints(
        None,
        manager,
        trainer_id=job_id,
        log_path=config.log_path,
        lora_rank=config.lora_rank,
        phase=phase_of(config, "dpo"),
    )
    with RunLog(config.log_path, "dpo") as log:
        train, held_out = load_split(config, max_seq_len, log.say)
        plan = build_plan(
            [pair is not None for pair in train],
            epochs=config.epochs,
            batch_size=config.batch_size,
            accumulation=config.gradient_accumulation_steps,
            seed=config.seed,
        )
        result: dict[str, Any] = {"job_id": job_id, "steps": len(plan), "model": None, "resumed_from": None}
        if checkpoints.finished(plan[-1].data_consumed):
            close_finished(manager, config, job_id)
            log.say("this run is complete already; nothing is trained")
        else:
            if config.output_model_id:
                check_model_is_free(manager, config.output_model_id)
            with training_client(manager, config, job_id, max_seq_len) as client:
                checkpoints.client = client
                resumed = checkpoints.resume_run(config, len(plan))
                if resumed:
                    result["resumed_from"] = resumed.source
                    log.say(resumed.told("pairs"))
                done = steps_done(plan, resumed.data_consumed) if resumed else 0
                check_rows(config, done)
                train, held_out = add_reference(
                    manager, config, client, max_seq_len, train, held_out, at_start=done == 0
                )
                train_steps(config, client, checkpoints, log, plan, done, train, held_out)
        if config.output_model_id:
            result["model"] = checkpoints.promote_latest(config.output_model_id, config.base_model)
            log.say(f"model {result['model'].get('name', config.output_model_id)} is ready")
        log.draw(ylabel="loss per pair")
        log.draw("accuracy.png", ACCURACIES, "share of pairs")
    return result


def train_steps(
    config: Config,
    client: Any,
    checkpoints: TrainingCheckpoints,
    log: RunLog,
    plan: list[Step],
    done: int,
    train: list[Any],
    held_out: list[Pair],
) -> None:
    """Take the steps of `plan` after `done`, and save as configured."""
    log.begin(done, len(plan))
    if held_out and done == 0 and not log.entries():
        log.add({"step": 0} | evaluate(client, evaluation(config, held_out)))
    interval = config.weight_sync.dcp_save_interval
    for step in plan[done:]:
        rate = learning_rate(
            step.index,
            peak=config.learning_rate,
            schedule=config.lr_schedule,
            warmup_steps=config.warmup_steps,
            total_steps=len(plan),
            min_ratio=config.min_lr_ratio,
        )
        batches = [[train[row] for row in batch] for batch in step.micro_batches]
        count = sum(map(len, batches))
        losses = [(as_data(pairs), loss_of(config, pairs, count)) for pairs in batches]
        # Awaited at once: a save must hold exactly the steps its cursor counts (B6).
        sums, update = submit_custom(client, losses, rate, config).result()
        number, final = step.index + 1, step.index + 1 == len(plan)
        entry = {"step": number, "epoch": step.epoch, "data_consumed": step.data_consumed, "lr": rate}
        entry |= {name: sums[name] / count for name in METRICS}
        log.add(entry | {name: update[name] for name in ("grad_norm",) if name in update})
        if held_out and (final or (config.eval_interval and number % config.eval_interval == 0)):
            log.add({"step": number} | evaluate(client, evaluation(config, held_out)))
        if interval and number % interval == 0 and not final:
            log.say(f"checkpoint {checkpoints.save_step(number, step.data_consumed)} is saved")
    name = checkpoints.save_step(len(plan), plan[-1].data_consumed, promotable=True)
    log.say(f"checkpoint {name} is saved")


def loss_of(config: Config, pairs: list[Pair], count: int) -> CustomLoss:
    """The loss of `pairs`, which are all or a part of the `count` pairs of one step."""
    return dpo_loss(pairs, beta=config.beta, label_smoothing=config.label_smoothing, divisor=count)


def evaluation(config: Config, held_out: list[Pair]) -> list[tuple[list[Pair], CustomLoss]]:
    """The held-out pairs in batches, each with its loss."""
    batches = [held_out[at : at + config.batch_size] for at in range(0, len(held_out), config.batch_size)]
    return [(pairs, loss_of(config, pairs, len(pairs))) for pairs in batches]
