"""Multi-head self-attention with padding masks, as an ``nn.Module`` of plain PyTorch."""

from __future__ import annotations

from torch import Tensor, nn

from .functional import masked_attention

__all__ = ["MaskedSelfAttention"]


class MaskedSelfAttention(nn.Module):
    """Self-attention with four projections around ``masked_attention``.

    Args:
        embed_dim: size of the input and output features.
        num_heads: number of query heads; divides ``embed_dim``.
        num_kv_heads: number of key and value heads; divides ``num_heads``. ``None`` means as many.
        causal: each position sees only itself and what comes before.
        window: sliding window, in keys.
        bias: whether the projections have a bias.

    Raises:
        ValueError: a size that does not divide the other.

    Example:
        >>> import torch
        >>> attention = MaskedSelfAttention(8, num_heads=2, causal=True)
        >>> with torch.no_grad():
        ...     attention(torch.ones(1, 3, 8), key_mask=torch.tensor([[False, True, True]])).shape
        torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        causal: bool = False,
        window: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} is not a multiple of num_heads {num_heads}")
        if num_heads % num_kv_heads:
            raise ValueError(
                f"num_heads {num_heads} is not a multiple of num_kv_heads {num_kv_heads}"
            )
        self.head_dim = embed_dim // num_heads
        self.causal = causal
        self.window = window
        self.q_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.k_proj = nn.Linear(embed_dim, num_kv_heads * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(embed_dim, num_kv_heads * self.head_dim, bias=bias)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias)

    def forward(
        self, x: Tensor, *, key_mask: Tensor | None = None, attn_mask: Tensor | None = None
    ) -> Tensor:
        """Attend within each sequence of the batch.

        Args:
            x: ``[batch, length, embed_dim]``.
            key_mask: ``[batch, length]`` bool, True = may be seen (a padding mask).
            attn_mask: bool or float, broadcastable to ``[batch, heads, length, length]``.

        Returns:
            ``[batch, length, embed_dim]``.

        Raises:
            RuntimeError: a mask of a wrong shape or dtype, or an input that requires grad.
        """
        out = masked_attention(
            self._heads(self.q_proj(x)),
            self._heads(self.k_proj(x)),
            self._heads(self.v_proj(x)),
            key_mask=key_mask,
            attn_mask=attn_mask,
            causal=self.causal,
            window=self.window,
        )
        joined: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return joined

    def _heads(self, x: Tensor) -> Tensor:
        """``[batch, length, heads * head_dim]`` to ``[batch, heads, length, head_dim]``."""
        return x.view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)

    def extra_repr(self) -> str:
        return f"head_dim={self.head_dim}, causal={self.causal}, window={self.window}"
