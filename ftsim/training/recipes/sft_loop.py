"""Supervised fine-tuning: `main(Config(...))` trains, saves, resumes and promotes."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ftsim.training.checkpoints.identity import check_rows
from ftsim.training.checkpoints.manager import TrainingCheckpoints
from ftsim.training.checkpoints.promotion import check_model_is_free
from ftsim.training.config import check_common, check_evaluation, phase_of
from ftsim.training.data.batches import Step, build_plan, split, steps_done
from ftsim.training.data.supervised import load_supervised, load_tokenizer
from ftsim.training.errors import DataError
from ftsim.training.metrics import RunLog
from ftsim.training.schedule import learning_rate
from ftsim.training.steps import Submitted, mean_loss, submit
from ftsim.training.trainers import close_finished, connect, context_length, job_id_for, training_client
from ftsim.training.utils import InfraConfig, WeightSyncConfig


@dataclass
class Config:
    """A supervised run. `log_path` identifies it: the same path resumes, another one is another run."""

    log_path: str
    """Folder for dataloader.json, rows.json, metrics.jsonl and loss.png."""
    base_model: str
    """Resource name of the model to train."""
    dataset: str
    """JSONL file of {"messages": [...]} or {"prompt": ..., "completion": ...} rows."""
    tokenizer_model: str
    """Hugging Face name or folder of the tokenizer."""
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
    learning_rate: float = 1e-4
    """Highest learning rate."""
    lr_schedule: str = "constant"
    """What follows the warm-up: constant, linear or cosine."""
    warmup_steps: int = 0
    """Steps over which the rate rises from zero."""
    min_lr_ratio: float = 0.0
    """Where linear and cosine end, as a share of learning_rate."""
    epochs: int = 3
    """Passes over the data."""
    batch_size: int = 8
    """Rows per forward_backward."""
    gradient_accumulation_steps: int = 1
    """Micro-batches per optimizer step."""
    max_seq_len: int | None = None
    """Longest row in tokens; None takes what the training shape allows."""
    truncate: bool = True
    """Cut longer rows; False leaves them out. Both are counted."""
    max_examples: int | None = None
    """Read at most this many rows."""
    eval_split: float = 0.0
    """Share of the rows held out for evaluation."""
    eval_dataset: str | None = None
    """File of rows for evaluation, instead of eval_split."""
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
    """Fixes the order of the rows, the held-out rows and the adapter's initial weights."""
    infra: InfraConfig = field(default_factory=InfraConfig)
    weight_sync: WeightSyncConfig = field(default_factory=WeightSyncConfig)

    def __post_init__(self) -> None:
        check_common(self)
        check_evaluation(self)


def main(config: Config) -> dict[str, Any]:
    """Run, or go on with, the training `config` describes; returns job id, steps and promoted model."""
    manager = connect()
    max_seq_len = context_length(manager, config)
    job_id = config.trainer_job_id or job_id_for("sft", config.log_path)
    checkpoints = TrainingCheckpoints(
        None,
        manager,
        trainer_id=job_id,
        log_path=config.log_path,
        lora_rank=config.lora_rank,
        phase=phase_of(config, "sft"),
    )
    with RunLog(config.log_path, "sft") as log:
        train, held_out = load_data(config, max_seq_len, log)
        plan = build_plan(
            [one is not None for one in train],
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
                    log.say(resumed.told("rows"))
                done = steps_done(plan, resumed.data_consumed) if resumed else 0
                check_rows(config, done)
                train_steps(config, client, checkpoints, log, plan, done, train, held_out)
        if config.output_model_id:
            result["model"] = checkpoints.promote_latest(config.output_model_id, config.base_model)
            log.say(f"model {result['model'].get('name', config.output_model_id)} is ready")
        log.draw()
    return result


def load_data(config: Config, max_seq_len: int, log: RunLog) -> tuple[list[Any], list[Any]]:
    """Training data, None where a row is dropped, and held-out data; bad input raises `DataError` right here."""
    tokenizer = load_tokenizer(config.tokenizer_model)
    loaded = load_supervised(
        config.dataset, tokenizer, max_seq_len, truncate=config.truncate, max_examples=config.max_examples
    )
    rows, held_out_rows = split(len(loaded.data), config.eval_split, config.seed)
    train, held_out = [loaded.data[row] for row in rows], [loaded.data[row] for row in held_out_rows]
    if all(one is None for one in train):
        raise DataError(f"{config.dataset}: eval_split leaves nothing to train on")
    if config.eval_dataset:
        held_out = list(load_supervised(config.eval_dataset, tokenizer, max_seq_len, truncate=config.truncate).data)
    log.say(f"{len(train)} rows, {len(held_out)} held out; {loaded.truncated} cut, {loaded.dropped} dropped")
    return train, [one for one in held_out if one is not None]


def train_steps(
    config: Config,
    client: Any,
    checkpoints: TrainingCheckpoints,
    log: RunLog,
    plan: list[Step],
    done: int,
    train: list[Any],
    held_out: list[Any],
) -> None:
    """Take the steps of `plan` after `done`, one step submitted ahead, and save as configured."""
    log.begin(done, len(plan))
    if held_out and done == 0 and not log.entries():
        log.add({"step": 0, "eval_loss": mean_loss(client, held_out, config.batch_size)})
    in_flight: deque[tuple[Step, float, Submitted]] = deque()
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
        in_flight.append((step, rate, submit(client, batches, "cross_entropy", rate, config)))
        number = step.index + 1
        final = number == len(plan)
        saves = bool(interval) and number % interval == 0 and not final
        evaluates = bool(config.eval_interval) and number % config.eval_interval == 0
        # A save must hold exactly the steps its cursor counts, so nothing stays in flight across it (B6).
        while len(in_flight) > (0 if saves or final or evaluates else 1):
            report(log, *in_flight.popleft())
        if held_out and (evaluates or final):
            log.add({"step": number, "eval_loss": mean_loss(client, held_out, config.batch_size)})
        if saves:
            log.say(f"checkpoint {checkpoints.save_step(number, step.data_consumed)} is saved")
    name = checkpoints.save_step(len(plan), plan[-1].data_consumed, promotable=True)
    log.say(f"checkpoint {name} is saved")


def report(log: RunLog, step: Step, rate: float, submitted: Submitted) -> None:
    """Await a step and log it."""
    sums, update = submitted.result()
    tokens = sums.get("response_tokens", 0.0)
    entry: dict[str, Any] = {"step": step.index + 1, "epoch": step.epoch, "data_consumed": step.data_consumed}
    entry |= {"loss": sums["loss:sum"] / tokens, "tokens": int(tokens), "lr": rate}
    log.add(entry | {name: update[name] for name in ("grad_norm",) if name in update})
