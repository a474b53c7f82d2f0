"""The inference gateway and hot loading: parse, one service call, serialise."""

from emulator.http.inference import chat, completions, counts, embeddings, hot_load, messages, responses, served

routers = (
    completions.router,
    chat.router,
    messages.router,
    responses.router,
    counts.router,
    embeddings.router,
    served.router,
    hot_load.router,
)
