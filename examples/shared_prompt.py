"""One system prompt for a whole batch: its keys and values are stored and read once.

Every row attends to the shared prompt and to its own text. The two parts are computed apart and put
together by their log-sum-exps, so the prompt is never copied into the rows. The printed difference
is that to attention over keys that are copied.
"""

import time

import torch
from torch import Tensor

from masked_attn import masked_attention, merge_attention

BATCH, HEADS, HEAD_DIM = 8, 12, 64
PROMPT, OWN = 1024, 32


def attend_with_shared_prompt(
    query: Tensor,
    prompt_key: Tensor,
    prompt_value: Tensor,
    key: Tensor,
    value: Tensor,
    key_mask: Tensor,
) -> Tensor:
    """``[batch, heads, queries, head_dim]`` over the shared prompt and each row's own text.

    Args:
        query: ``[batch, heads, queries, head_dim]``.
        prompt_key: ``[1, heads, prompt, head_dim]``, the same for all rows; ``prompt_value`` alike.
        key: ``[batch, heads, own, head_dim]``, what each row has besides; ``value`` alike.
        key_mask: bool ``[batch, own]``, the padding of the rows.
    """
    batch, heads, queries, _ = query.shape
    # To the prompt all rows are one long row of queries, and each of them sees all of it.
    as_one_row = query.transpose(0, 1).reshape(1, heads, batch * queries, -1)
    shared, shared_logsumexp = masked_attention(
        as_one_row, prompt_key, prompt_value, return_logsumexp=True
    )
    shared = shared.reshape(heads, batch, queries, -1).transpose(0, 1)
    shared_logsumexp = shared_logsumexp.reshape(heads, batch, queries).transpose(0, 1)
    own, own_logsumexp = masked_attention(
        query, key, value, key_mask=key_mask, causal=True, return_logsumexp=True
    )
    return merge_attention([shared, own], [shared_logsumexp, own_logsumexp])


def main() -> None:
    torch.manual_seed(0)
    prompt_key, prompt_value = torch.randn(2, 1, HEADS, PROMPT, HEAD_DIM)
    query, key, value = torch.randn(3, BATCH, HEADS, OWN, HEAD_DIM)
    lengths = torch.linspace(OWN // 4, OWN, BATCH).long()
    key_mask = torch.arange(OWN) >= OWN - lengths[:, None]

    parts = (query, prompt_key, prompt_value, key, value, key_mask)
    attend_with_shared_prompt(*parts)  # the first call starts threads
    start = time.perf_counter()
    result = attend_with_shared_prompt(*parts)
    together = time.perf_counter() - start

    start = time.perf_counter()
    copied_key = torch.cat([prompt_key.expand(BATCH, -1, -1, -1), key], dim=2)
    copied_value = torch.cat([prompt_value.expand(BATCH, -1, -1, -1), value], dim=2)
    copied_mask = torch.cat([torch.ones(BATCH, PROMPT, dtype=torch.bool), key_mask], dim=1)
    expected = masked_attention(query, copied_key, copied_value, key_mask=copied_mask, causal=True)
    copied = time.perf_counter() - start

    real = key_mask[:, None, :, None]
    difference = ((result - expected) * real).abs().max().item()
    print(f"largest difference at real tokens: {difference:.1e}")
    print(f"shared: {1e3 * together:.1f} ms, with a copy for each row: {1e3 * copied:.1f} ms")


if __name__ == "__main__":
    main()
