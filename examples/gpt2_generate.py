"""GPT-2 finishes a left-padded batch of prompts, with the attention of masked_attn.

Takes the real ``gpt2`` when it is in the local cache or a hub can be reached, else the small model
that comes with masked_attn.
"""

from pathlib import Path

from huggingface_hub import HfApi, try_to_load_from_cache
from transformers import AutoTokenizer, GPT2LMHeadModel

import masked_attn

PROMPTS = ["It will rain in the", "I want to eat a big bowl of", "My dog is"]


def find_gpt2() -> tuple[str, bool]:
    """The model to load, and whether it is on this machine."""
    if isinstance(try_to_load_from_cache("gpt2", "model.safetensors"), str):
        return "gpt2", True
    try:
        if HfApi().file_exists("gpt2", "model.safetensors"):
            return "gpt2", False
    except Exception:  # no network, a proxy in the way, offline mode: all the same here
        pass
    print("gpt2 is neither cached nor can a hub be reached: this is the small embedded model")
    return str(Path(masked_attn.__file__).parent / "demo_model"), True


def main() -> None:
    name, is_local = find_gpt2()
    tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left", local_files_only=is_local)
    tokenizer.pad_token = tokenizer.eos_token
    model = GPT2LMHeadModel.from_pretrained(name, local_files_only=is_local)

    masked_attn.patch(model)

    batch = tokenizer(PROMPTS, padding=True, return_tensors="pt")
    tokens = model.generate(**batch, max_new_tokens=20, pad_token_id=tokenizer.pad_token_id)
    for text in tokenizer.batch_decode(tokens, skip_special_tokens=True):
        print(text)


if __name__ == "__main__":
    main()
