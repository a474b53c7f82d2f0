"""Renders chat templates for whoever started it: a process that may use so much time and memory, and no more.

`python -I render.py [sys.path as JSON]`, with a socket as standard input. Each message there is a JSON object; what
comes back is one, too: {"text": ...} or {"error": ...}. Nothing of ftsim is imported, so that it starts in a moment.
"""

import json
import resource
import signal
import sys
from multiprocessing.connection import Connection


def main() -> None:
    """Answer until the other end is closed; a template that computes for too long ends the process by SIGPROF."""
    sys.path[:] = json.loads(sys.argv[1])
    from transformers.utils.chat_template_utils import render_jinja_template

    with Connection(0) as channel:
        while True:
            try:
                asked = json.loads(channel.recv_bytes())
            except EOFError:
                return
            limit_memory(asked["memory"])
            signal.setitimer(signal.ITIMER_PROF, asked["seconds"])
            try:
                (text,), _ = render_jinja_template(
                    conversations=[asked["messages"]],
                    tools=asked["tools"],
                    chat_template=asked["template"],
                    add_generation_prompt=True,
                    **asked["variables"],
                )
                said = {"text": text} if len(text) <= asked["longest"] else {"length": len(text)}
                answer = json.dumps(said).encode()
            except MemoryError:
                answer = b'{"error": "it needs more memory than it may take"}'
            except Exception as error:  # templates raise whatever they like
                answer = json.dumps({"error": str(error)[:2000]}).encode()
            signal.setitimer(signal.ITIMER_PROF, 0)
            channel.send_bytes(answer)


def limit_memory(more: int) -> None:
    """Let this process take `more` bytes beyond what it has; where the system cannot, time alone is limited."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + more, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (OSError, ValueError):
        return


if __name__ == "__main__":
    main()
