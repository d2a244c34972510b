// packed_attention: sequences of different lengths, one behind the other and without padding.
// Queries [tokens, heads, head_dim] attend over keys [keys, kv_heads, head_dim]; sequence n has the
// queries from cu_seqlens[n] up to cu_seqlens[n + 1], and its keys likewise by cu_seqlens_k, or as
// many as queries without it. Each sequence has the bits of `masked_attention` on it alone.
//
// On the CPU the values of both are checked before anything is read. On CUDA nobody can be told of
// a wrong one: it is moved into the tensors, and rows that no sequence names are not written.
#pragma once

#include "api.h"
#include "attention_options.h"
#include "dispatch.h"

namespace masked_attn {

// Through the dispatcher, for C++ callers. There are no masks: what is masked would not be packed.
MASKED_ATTN_API at::Tensor packed_attention(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const at::Tensor& cu_seqlens, c10::SymInt max_seqlen, const AttentionOptions& options = {},
    const std::optional<at::Tensor>& cu_seqlens_k = std::nullopt,
    std::optional<c10::SymInt> max_seqlen_k = std::nullopt);

// The same, with the log-sum-exp [heads, tokens]: float32, float64 for float64.
MASKED_ATTN_API OutAndLogsumexp packed_attention_forward(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const at::Tensor& cu_seqlens, c10::SymInt max_seqlen, const AttentionOptions& options = {},
    const std::optional<at::Tensor>& cu_seqlens_k = std::nullopt,
    std::optional<c10::SymInt> max_seqlen_k = std::nullopt);

struct PackedAttention {
  static constexpr char kName[] = "packed_attention";
  const at::Tensor& query;
  const at::Tensor& key;
  const at::Tensor& value;
  const at::Tensor& cu_seqlens;
  c10::SymInt max_seqlen;
  const std::optional<at::Tensor>& cu_seqlens_k;
  std::optional<c10::SymInt> max_seqlen_k;
  const AttentionOptions& options;

  auto own() const {
    return std::tie(query, key, value, cu_seqlens, max_seqlen, cu_seqlens_k, max_seqlen_k);
  }
  using O = AttentionOptions;
  using Options =
      Members<&O::causal, &O::window, &O::scale, &O::softcap, &O::sinks, &O::alibi_slopes>;
};

// Check everything but the values of the offsets, and return empty results of the right shape.
at::Tensor checked_output(const PackedAttention& op);
at::Tensor empty_logsumexp(const PackedAttention& op);

}  // namespace masked_attn
