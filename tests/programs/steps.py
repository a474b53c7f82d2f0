"""A step of supervised training on two short rows, for any of the clients."""

from typing import Any

ROWS = ([300, 301, 302, 303, 304, 305], [40, 41, 42, 43, 44])


def datum(tokens: list[int], types: Any) -> Any:
    target = types.TensorData(data=tokens[1:], dtype="int64", shape=[len(tokens) - 1])
    weights = types.TensorData(data=[1.0] * (len(tokens) - 1), dtype="float32", shape=[len(tokens) - 1])
    return types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": target, "weights": weights},
    )


def step(client: Any, types: Any) -> list[float]:
    """Train one step with the types of the client's library; returns the log-probabilities before it."""
    sent = client.forward_backward([datum(list(row), types) for row in ROWS], "cross_entropy")
    stepped = client.optim_step(types.AdamParams(learning_rate=0.01))
    outputs = sent.result().loss_fn_outputs
    stepped.result()
    return [float(value) for output in outputs for value in output["logprobs"].data]


def close(service: Any) -> None:
    """Close a client, where clients of its release can be closed."""
    if hasattr(service, "close"):
        service.close()
