"""Names and revisions under which clients ask the hub for a tokenizer, besides those of the catalogue."""

_LLAMA = {
    "thinkingmachineslabinc/meta-llama-3-instruct-tokenizer": "llama-v3p1-8b-instruct",
    "meta-llama/Meta-Llama-3-8B": "llama-v3-8b",
    "meta-llama/Meta-Llama-3-8B-Instruct": "llama-v3-8b-instruct",
    "meta-llama/Meta-Llama-3-70B-Instruct": "llama-v3-70b-instruct",
    "meta-llama/Llama-3.1-8B": "llama-v3p1-8b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-v3p1-8b-instruct",
    "meta-llama/Llama-3.1-70B": "llama-v3p1-70b",
    "meta-llama/Llama-3.1-70B-Instruct": "llama-v3p1-70b-instruct",
    "meta-llama/Llama-3.2-1B": "llama-v3p2-1b",
    "meta-llama/Llama-3.2-1B-Instruct": "llama-v3p2-1b-instruct",
    "meta-llama/Llama-3.2-3B": "llama-v3p2-3b",
    "meta-llama/Llama-3.2-3B-Instruct": "llama-v3p2-3b-instruct",
    "meta-llama/Llama-3.3-70B-Instruct": "llama-v3p3-70b-instruct",
}
_QWEN = {
    f"Qwen/Qwen2.5-{size}{suffix}": f"qwen2p5-{short}"
    for size, short in (("14B", "14b"), ("32B", "32b"), ("Coder-14B", "coder-14b"), ("Coder-32B", "coder-32b"))
    for suffix, short in (("", short), ("-Instruct", f"{short}-instruct"))
}
_QWEN |= {
    "Qwen/Qwen2.5-VL-7B-Instruct": "qwen2p5-vl-7b-instruct",
    "Qwen/QwQ-32B": "qwq-32b",
    "Qwen/Qwen3-8B-Base": "qwen3-8b-base",
    "Qwen/Qwen3-30B-A3B-Base": "qwen3-30b-a3b-base",
    "Qwen/Qwen3.5-4B": "qwen3p5-4b",
    "Qwen/Qwen3.5-9B-Base": "qwen3p5-9b-base",
    "Qwen/Qwen3.5-35B-A3B-Base": "qwen3p5-35b-a3b-base",
}
_DEEPSEEK = {
    "deepseek-ai/DeepSeek-R1": "deepseek-r1",
    "deepseek-ai/DeepSeek-R1-0528": "deepseek-r1-0528",
    "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B": "deepseek-r1-0528-distill-qwen3-8b",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": "deepseek-r1-distill-llama-8b",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": "deepseek-r1-distill-llama-70b",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": "deepseek-r1-distill-qwen-14b",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": "deepseek-r1-distill-qwen-32b",
    "deepseek-ai/DeepSeek-V3.1-Base": "deepseek-v3p1-base",
    "deepseek-ai/DeepSeek-V4.1-Flash-1017": "deepseek-v4p1-flash-1017",
}
_OTHERS = {
    "MiniMaxAI/MiniMax-M3": "minimax-m3",
    "mistralai/Ministral-3-3B-Instruct-2512": "ministral-3-3b-instruct-2512",
    "mistralai/Mistral-Small-24B-Instruct-2501": "mistral-small-24b-instruct-2501",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": "nemotron-nano-3-30b-a3b",
    "nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-BF16": "nemotron-lightning-3p5-30b-a3b",
    "nvidia/NVIDIA-Nemotron-3.5-Super-VL-120B-A12B-BF16": "nemotron-3p5-super-vl-120b-a12b-bf16",
}
MORE = _LLAMA | _QWEN | _DEEPSEEK | _OTHERS
"""Name on the hub -> id of the base model that stands for it."""

PINNED = {
    "moonshotai/Kimi-K2-Thinking": ("a51ccc050d73dab088bf7b0e2dd9b30ae85a4e55",),
    "moonshotai/Kimi-K2.5": (
        "2426b45b6af0da48d0dcce71bbce6225e5c73adc",
        "3367c8d1c68584429fab7faf845a32d5195b6ac1",
    ),
    "moonshotai/Kimi-K2.6": ("b5aabbfb20227ed42becbf5541dbffd213942c58",),
    "nvidia/NVIDIA-Nemotron-3.5-Super-VL-120B-A12B-BF16": ("533d66230b6e75518bf32d2d7a7b95a24c3dd517",),
}
"""Revisions that clients name: tinker-cookbook 0.4.3 and 0.6.1 pin these."""
