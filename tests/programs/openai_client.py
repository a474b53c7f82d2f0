"""A chat with the OpenAI client, embeddings, and Responses: whole, as a stream, and with a tool that must be called.

Usage: openai_client.py BASE_MODEL. Prints one line of JSON.
"""

import json
import os
import sys
from typing import Any

from openai import OpenAI

from tests.programs import loopback

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"enum": [2, 3]}}, "required": ["a"]},
    },
}


def main(model: str) -> None:
    loopback.stay()
    base = os.environ["FIREWORKS_BASE_URL"] + "/inference/v1"
    client = OpenAI(base_url=base, api_key=os.environ["FIREWORKS_API_KEY"], max_retries=0)
    asked: Any = [{"role": "user", "content": "What is 2 + 3?"}]
    settings: dict[str, Any] = {"model": model, "messages": asked, "max_tokens": 20, "temperature": 0}
    whole = client.chat.completions.create(**settings)
    parts = [
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(**settings, stream=True)
        if chunk.choices
    ]
    call = client.chat.completions.create(**{**settings, "max_tokens": 100}, tools=[TOOL], tool_choice="required")
    made = (call.choices[0].message.tool_calls or [None])[0]
    wanted: dict[str, Any] = {"model": model, "input": "What is 2 + 3?", "max_output_tokens": 20, "temperature": 0}
    response = client.responses.create(**wanted)
    with client.responses.stream(**wanted) as stream:
        grown = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    vectors = [one.embedding for one in client.embeddings.create(model=model, input=["a coin", "a coin"]).data]
    told = {
        "embedded": [len(vectors), vectors[0] == vectors[1], round(sum(value * value for value in vectors[0]), 4)],
        "responded": [response.output_text, grown, final.output_text],
        "counted": [one.usage.output_tokens if one.usage else 0 for one in (response, final)],
        "said": whole.choices[0].message.content,
        "streamed": "".join(parts),
        "tokens": whole.usage.completion_tokens if whole.usage else 0,
        "called": made.function.name if made is not None and made.type == "function" else None,
        "arguments": made.function.arguments if made is not None and made.type == "function" else None,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
