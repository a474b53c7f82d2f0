"""Names of the markers that tokenizers of each family have as single tokens, in the order of their ids.

They are facts of the families' own tokenizers.
"""

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Qwen3's; skipped by `decode(..., skip_special_tokens=True)`."""

MARKUP_TOKENS = (
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
"""Qwen3's; one token each, but part of the visible text."""
THINK = ("<think>", "</think>")
CALLS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")

QWEN = (SPECIAL_TOKENS, MARKUP_TOKENS)
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
DEEPSEEK = (
    "<｜▁pad▁｜>",
    "<｜User｜>",
    "<｜end▁of▁sentence｜>",
    "<｜begin▁of▁sentence｜>",
    "<｜Assistant｜>",
    "<｜System｜>",
    "<｜fim▁hole｜>",
    "<｜fim▁begin｜>",
    "<｜fim▁end｜>",
    "<|EOT|>",
)
DEEPSEEK_TOOLS = (
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "｜DSML｜",
    *THINK,
)
KIMI = (
    "[EOS]",
    "<|im_user|>",
    "<|im_end|>",
    "[BOS]",
    "<|im_assistant|>",
    "<|im_system|>",
    "<|im_middle|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "[EOT]",
    "[PAD]",
    "[UNK]",
    "<|media_begin|>",
    "<|media_content|>",
    "<|media_end|>",
    "<|media_pad|>",
)
KIMI_TOOLS = (
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    *THINK,
)
KIMI_IMAGE = "<|media_begin|>image<|media_content|><|media_pad|><|media_end|>\n"
GLM = (
    "<|endoftext|>",
    "<|assistant|>",
    "<|user|>",
    "[gMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|observation|>",
    "[MASK]",
    "[sMASK]",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|image|>",
)
GLM_TOOLS = (*CALLS, "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "/nothink", *THINK)
NEMOTRON = ("</s>", "<|im_start|>", "<|im_end|>", "<s>", "<unk>", "<img>", "</img>", "<image>")
LLAMA3 = (
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|eot_id|>",
    "<|begin_of_text|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
    "<|finetune_right_pad_id|>",
)
GEMMA3 = (
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<bos>",
    "<pad>",
    "<unk>",
    "<mask>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)
GEMMA4 = (
    "<eos>",
    "<|turn>",
    "<turn|>",
    "<bos>",
    "<pad>",
    "<unk>",
    "<mask>",
    "<|image>",
    "<image|>",
    "<|image|>",
    "<|audio>",
    "<audio|>",
    "<|audio|>",
    "<|video|>",
)
GEMMA4_TOOLS = (
    "<|think|>",
    "<|channel>",
    "<channel|>",
    "<|tool>",
    "<tool|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    '<|"|>',
)
HARMONY = (
    "<|endoftext|>",
    "<|start|>",
    "<|return|>",
    "<|startoftext|>",
    "<|end|>",
    "<|message|>",
    "<|channel|>",
    "<|call|>",
    "<|constrain|>",
    "<|endofprompt|>",
)
MISTRAL = (
    "<pad>",
    "[INST]",
    "</s>",
    "<s>",
    "[/INST]",
    "<unk>",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CONTENT]",
    "[IMG]",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[THINK]",
    "[/THINK]",
)
MINIMAX = ("]!p~[", "]~b]", "[e~[", "]~b[", "]!d~[", "]<]image[>[", "]<]start of image[>[", "]<]end of image[>[")
