"""An agent with three tools and ten turns, trained by reinforcement through the SDK's exact-token sidecar.

The harness asks the sidecar's loopback endpoint as it would any chat endpoint; what is trained is what the sidecar
recorded. Usage: agent.py BASE_MODEL TOKENIZER STEPS. Prints one line of JSON.
"""

import asyncio
import json
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, pstdev
from typing import Any

import httpx
from fireworks.training.sdk import AdaptiveConcurrencyController, types
from fireworks.training.sdk.client import FiretitanServiceClient
from fireworks.training.sdk.tito import (
    TITOChatRequest,
    TITOIncrementalPrompt,
    TITOParsedAssistant,
    TITOSidecar,
    TITOTrajectoryArtifact,
)
from transformers import AutoTokenizer

from tests.programs import loopback
from tests.programs.rl_reference import tensor

TURNS, EPISODES, LESSONS, LONGEST = 10, 12, 40, 40
BY = {"type": "object", "properties": {"by": {"type": "integer"}}, "required": ["by"]}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": BY}} for name in ("up", "down", "wait")]
TASK = [{"role": "user", "content": "Bring the lamp up."}]
ANSWER = re.compile(r"(?<=<\|im_start\|>assistant\n)(.*?<\|im_end\|>)", re.DOTALL)
Messages = Sequence[Mapping[str, Any]]


@dataclass
class Lamp:
    """The environment: a lamp that three tools move, or leave where it is."""

    level: int = 0

    def call(self, name: str, arguments: str) -> str:
        try:
            by = int(json.loads(arguments)["by"])
            self.level += {"up": 1, "down": -1, "wait": 0}[name] * min(max(by, 0), 1)
        except (ValueError, TypeError, KeyError):
            return "no such tool"
        return f"level {self.level}"


class Renderer:
    """Writes conversations as the model's template does, and goes on from exact tokens turn by turn."""

    renderer_id = "lamp"

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def text(self, messages: Messages, *, prompt: bool = True) -> str:
        said = [_with_objects(json.loads(json.dumps(dict(one)))) for one in messages]
        written = self._tokenizer.apply_chat_template(said, tools=TOOLS, tokenize=False, add_generation_prompt=prompt)
        return str(written)

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def render_conversation_tokens(self, request: TITOChatRequest) -> list[int]:
        return self.encode(self.text(request.messages))

    def prepare_incremental_prompt(
        self,
        request: TITOChatRequest,
        stored_messages: Messages,
        appended_messages: Messages,
        exact_checkpoint_ids: Sequence[int],
    ) -> TITOIncrementalPrompt | None:
        """The exact tokens so far, and what the template writes behind the last answer."""
        before, after = self.text(stored_messages, prompt=False).rstrip("\n"), self.text(request.messages)
        if not after.startswith(before):
            return None
        end = self._tokenizer.eos_token_id
        ended = [] if exact_checkpoint_ids[-1] == end else [end]
        tokens = (*exact_checkpoint_ids, *ended, *self.encode(after[len(before) :]))
        return TITOIncrementalPrompt(tokens, "lamp-1", "next-turn")

    def parse_assistant(
        self, request: TITOChatRequest, completion_ids: Sequence[int], completion_text: str, finish_reason: str
    ) -> TITOParsedAssistant:
        """A call where the answer is one, else its text."""
        text = completion_text.replace("<|im_end|>", "")
        found = re.fullmatch(r"<tool_call>\s*(\{.*\})\s*</tool_call>", text, re.DOTALL)
        try:
            said = json.loads(found[1]) if found else {}
            function = {"name": str(said["name"]), "arguments": json.dumps(said["arguments"])}
        except (ValueError, KeyError):
            return TITOParsedAssistant({"role": "assistant", "content": text})
        call = {"id": f"call-{len(request.messages)}", "type": "function", "function": function}
        return TITOParsedAssistant({"role": "assistant", "content": "", "tool_calls": [call]}, "tool_calls")

    def render_contract_id(self, request: TITOChatRequest) -> str:
        return "lamp-1"

    def stop_sequences(self, request: TITOChatRequest) -> None:
        return None


def _with_objects(message: dict[str, Any]) -> dict[str, Any]:
    """The message with arguments as objects, as the template wants them."""
    for call in message.get("tool_calls") or ():
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return message


def lesson(renderer: Renderer, chance: random.Random) -> types.Datum:
    """A conversation of whichever calls, of which the calls are trained."""
    messages, lamp = list[dict[str, Any]](TASK), Lamp()
    for _ in range(TURNS):
        function = {"name": chance.choice(("up", "down", "wait")), "arguments": '{"by": 1}'}
        call = {"id": "call", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        messages.append({"role": "tool", "content": lamp.call(**function)})
    tokens, weights = list[int](), list[float]()
    for at, part in enumerate(ANSWER.split(renderer.text(messages, prompt=False))):
        tokens += (part_tokens := renderer.encode(part))
        weights += [float(at % 2)] * len(part_tokens)
    return types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": tensor(tokens[1:], "int64"), "weights": tensor(weights[1:])},
    )


async def episode(sidecar: TITOSidecar) -> tuple[TITOTrajectoryArtifact, int]:
    """Ten turns of the agent at its own endpoint: the record of its tokens, and where the lamp is."""
    endpoint = await sidecar.create_trajectory_async()
    messages, lamp = list[dict[str, Any]](TASK), Lamp()
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    async with httpx.AsyncClient(base_url=endpoint.openai_base_url, headers=headers, timeout=300) as client:
        for _ in range(TURNS):
            asked = {"model": "policy", "messages": messages, "tools": TOOLS}
            answer = (await client.post("/chat/completions", json=asked)).raise_for_status().json()
            said = answer["choices"][0]["message"]
            messages.append(said)
            for call in said.get("tool_calls") or ():
                result = lamp.call(**call["function"])
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
            if not said.get("tool_calls"):
                messages.append({"role": "user", "content": "Call a tool."})
    return await sidecar.finish_trajectory(endpoint.trajectory_id), lamp.level


async def episodes(sampler: Any, renderer: Renderer, mode: Any, count: int) -> list[tuple[TITOTrajectoryArtifact, int]]:
    sidecar = TITOSidecar.from_deployment_sampler(
        sampler.deployment_sampler,
        renderer=renderer,
        max_context_tokens=4096,
        max_output_tokens=LONGEST,
        prompt_mode=mode,
    )
    async with sidecar:
        played = await asyncio.gather(*(episode(sidecar) for _ in range(count)))
    sampler.close()
    await asyncio.sleep(0.01)  # its connections close in a task
    return list(played)


def datums(artifact: TITOTrajectoryArtifact, advantage: float) -> list[types.Datum]:
    """Each segment of a trajectory as one sequence; what the policy said is trained, where it stands.

    A trajectory is one segment, but for answers that the limit has cut: the sidecar begins anew behind them.
    """
    made = []
    for segment in TITOTrajectoryArtifact.unpack(artifact.pack()).segments:
        tokens = list(segment.turns[-1].exact_checkpoint_ids)
        logprobs, advantages = [0.0] * len(tokens), [0.0] * len(tokens)
        for turn in segment.turns:
            begin, end = len(turn.exact_prompt_ids), len(turn.exact_checkpoint_ids)
            logprobs[begin:end] = turn.sampling_logprobs
            advantages[begin:end] = [advantage] * (end - begin)
        inputs = {
            "target_tokens": tensor(tokens[1:], "int64"),
            "logprobs": tensor(logprobs[1:]),
            "advantages": tensor(advantages[1:]),
        }
        made.append(types.Datum(model_input=types.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs))
    return made


def farthest(sent: Sequence[types.Datum], outputs: Sequence[Any]) -> float:
    """The greatest distance between log-probabilities of the trainer and those that tokens were sampled with."""
    return max(
        abs(float(mine) - float(theirs))
        for one, out in zip(sent, outputs, strict=True)
        for mine, theirs in zip(out["logprobs"].data, one.loss_fn_inputs["logprobs"].data, strict=True)
        if theirs
    )


def main(base: str, tokenizer: str, steps: int) -> None:
    loopback.stay()
    renderer, chance = Renderer(AutoTokenizer.from_pretrained(tokenizer)), random.Random(1)
    service = FiretitanServiceClient()
    policy = service.create_lora_training_client(base, rank=16, seed=1)
    for _ in range(LESSONS):
        policy.forward_backward([lesson(renderer, chance) for _ in range(4)], "cross_entropy").result()
        policy.optim_step(types.AdamParams(learning_rate=0.01)).result()
    controller = AdaptiveConcurrencyController(initial_window=EPISODES, adjustment_interval=0)
    rewards, distances, calls = list[float](), list[float](), list[float]()
    load, attempts = list[dict[str, float]](), set[tuple[str, int | None]]()
    for step in range(steps):
        path = policy.save_weights_for_sampler_ext(f"s{step}").path
        sampler = service.create_sampling_client(model_path=path, concurrency_controller=controller)
        played = asyncio.run(episodes(sampler, renderer, "incremental", EPISODES))
        load.append(controller.step_completed())
        rewards.append(mean(level for _, level in played))
        turns = [turn for one, _ in played for segment in one.segments for turn in segment.turns]
        calls.append(sum(bool(turn.assistant.message.get("tool_calls")) for turn in turns) / len(turns))
        attempts |= {(one.outcome, one.status_code) for turn in turns for one in turn.server_attempts}
        spread = pstdev(level for _, level in played) or 1.0
        sent = [each for one, level in played for each in datums(one, (level - rewards[-1]) / spread)]
        done = policy.forward_backward(sent, "importance_sampling").result()
        policy.optim_step(types.AdamParams(learning_rate=0.01)).result()
        distances.append(farthest(sent, done.loss_fn_outputs))
    sampler = service.create_sampling_client(model_path=policy.save_weights_for_sampler_ext("end").path)
    ((last, _),) = asyncio.run(episodes(sampler, renderer, "full_history", 1))
    told = {
        "rewards": rewards,
        "distance": max(distances),
        "calls": calls,
        "load": load,
        "attempts": sorted(attempts, key=str),
        "dispositions": [turn.prompt_disposition for one in last.segments for turn in one.turns],
    }
    print(json.dumps(told))
    service.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
