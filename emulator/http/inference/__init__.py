"""The inference gateway and hot loading: parse, one service call, serialise."""

from emulator.http.inference import chat, completions, embeddings, hot_load, messages, responses, served

routers = (
    completions.router,
    chat.router,
    messages.router,
    responses.router,
    embeddings.router,
    served.router,
    hot_load.router,
)
