"""A program written for flash-attn: it scores ragged batches without pads, then generates.

Only the two import lines say masked_attn; with flash_attn in their place it is the program it was.
It runs on a CPU or a GPU. Weights are random, so the text means nothing; the printed loss and
tokens are those of plain attention. It does not train: masked_attn has no gradients yet.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from masked_attn.flash import flash_attn_varlen_func, flash_attn_with_kvcache
from masked_attn.flash.bert_padding import pad_input, unpad_input

VOCABULARY, WIDTH, HEADS, HEADS_K, LAYERS, POSITIONS = 97, 64, 4, 2, 2, 128
HEAD_DIM = WIDTH // HEADS


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, (HEADS + 2 * HEADS_K) * HEAD_DIM)
        self.out = nn.Linear(WIDTH, WIDTH)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[..., width]`` -> queries, keys, values ``[..., heads, head_dim]``."""
        heads = self.qkv(self.norm(x)).unflatten(-1, (-1, HEAD_DIM))
        q, k, v = heads.split((HEADS, HEADS_K, HEADS_K), dim=-2)
        return q, k, v


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def packed(
        self, tokens: Tensor, cu_seqlens: Tensor, longest: int
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """All sequences back to back: logits ``[tokens, vocabulary]``, and keys and values."""
        lengths = cu_seqlens.diff().tolist()
        positions = torch.cat([torch.arange(n, device=tokens.device) for n in lengths])
        x = self.tokens(tokens) + self.positions(positions)
        cache = []
        for layer in self.layers:
            q, k, v = layer.split(x)
            out = flash_attn_varlen_func(
                q, k, v, cu_seqlens, cu_seqlens, longest, longest, causal=True
            )
            x = x + layer.out(out.reshape(-1, WIDTH))
            cache.append((k, v))
        return self.head(x), cache

    def step(self, tokens: Tensor, caches: list[tuple[Tensor, Tensor]], filled: Tensor) -> Tensor:
        """One more token for each row, each at its own position: logits ``[batch, vocabulary]``."""
        x = self.tokens(tokens) + self.positions(filled)[:, None]
        for layer, (k_cache, v_cache) in zip(self.layers, caches, strict=True):
            q, k, v = layer.split(x)
            out = flash_attn_with_kvcache(
                q, k_cache, v_cache, k, v, cache_seqlens=filled, causal=True
            )
            x = x + layer.out(out.reshape(-1, 1, WIDTH))
        return self.head(x[:, -1])


def collate(texts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Ids and mask ``[batch, longest]``, padded on the right."""
    ids = nn.utils.rnn.pad_sequence(texts, batch_first=True)
    lengths = torch.tensor([len(text) for text in texts], device=ids.device)
    return ids, torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]


def loss_of(model: Model, texts: list[Tensor]) -> Tensor:
    """Mean loss of the next token, over all tokens that have one."""
    ids, mask = collate(texts)
    tokens, _, cu_seqlens, longest, *_ = unpad_input(ids[..., None], mask)
    tokens = tokens[:, 0]
    logits, _ = model.packed(tokens, cu_seqlens, longest)
    targets = tokens.roll(-1)
    targets[cu_seqlens[1:].long() - 1] = -100  # the last token of a text has no next one
    return cross_entropy(logits.float(), targets, ignore_index=-100)


def generate(model: Model, prompts: list[Tensor], steps: int) -> list[list[int]]:
    """Greedy continuations; prompts of different lengths, and nothing is padded to the left."""
    ids, mask = collate(prompts)
    batch, longest = ids.shape
    tokens, indices, cu_seqlens, longest, *_ = unpad_input(ids[..., None], mask)
    logits, prompt_cache = model.packed(tokens[:, 0], cu_seqlens, longest)
    filled = cu_seqlens.diff()
    caches = []
    for pair in prompt_cache:
        rooms = [torch.zeros(batch, longest + steps, *t.shape[1:]).to(t) for t in pair]
        for room, t in zip(rooms, pair, strict=True):
            room[:, :longest] = pad_input(t, indices, batch, longest)
        caches.append((rooms[0], rooms[1]))
    following = logits[cu_seqlens[1:].long() - 1].argmax(-1)
    found = [following]
    for _ in range(steps - 1):
        following = model.step(following[:, None], caches, filled).argmax(-1)
        filled = filled + 1
        found.append(following)
    return torch.stack(found, dim=1).tolist()


def random_texts(lengths: list[int], device: str) -> list[Tensor]:
    return [torch.randint(VOCABULARY, (length,)).to(device) for length in lengths]


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Model().to(device, torch.bfloat16).eval()
    for lengths in ([9, 30, 4], [17, 2, 25, 8]):
        print(f"lengths {lengths}: loss {loss_of(model, random_texts(lengths, device)):.3f}")
    for tokens in generate(model, random_texts([5, 12, 3], device), steps=8):
        print("generated", tokens)


if __name__ == "__main__":
    main()
