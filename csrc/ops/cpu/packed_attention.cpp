#include "../packed_attention.h"

#include <torch/library.h>

#include "attend.h"

namespace masked_attn::cpu {
namespace {

constexpr char kOp[] = "packed_attention";

// What one pair of arguments says, for messages.
struct Names {
  const char* offsets;
  const char* max;
  const char* tokens;
};
constexpr Names kQueries{"cu_seqlens", "max_seqlen", "queries"};
constexpr Names kKeys{"cu_seqlens_k", "max_seqlen_k", "keys"};

// Kernels trust the values, so they are checked before anything is read.
void check_offsets(const Names& names, const at::Tensor& offsets, int64_t max, int64_t tokens) {
  const int64_t* values = offsets.const_data_ptr<int64_t>();
  const int64_t last = offsets.size(0) - 1;
  TORCH_CHECK(values[0] == 0, kOp, ": ", names.offsets, "[0] must be 0, got ", values[0]);
  for (int64_t n = 0; n < last; ++n) {
    TORCH_CHECK(values[n + 1] >= values[n], kOp, ": ", names.offsets, " must never decrease, got ",
                names.offsets, "[", n + 1, "] = ", values[n + 1], " after ", values[n]);
    const int64_t length = values[n + 1] - values[n];
    TORCH_CHECK(length <= max, kOp, ": ", names.offsets, "[", n + 1, "] = ", values[n + 1],
                " gives sequence ", n, " ", length, " ", names.tokens, ", more than ", names.max,
                " = ", max);
  }
  TORCH_CHECK(values[last] == tokens, kOp, ": ", names.offsets, "[", last,
              "] must be the number of ", names.tokens, ", ", tokens, ", got ", values[last]);
}

void attend_packed(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                   const PackedLengths& lengths, bool causal, std::optional<int64_t> window,
                   std::optional<double> scale, const at::Tensor& out,
                   const at::Tensor& logsumexp) {
  check_offsets(kQueries, lengths.query_offsets, lengths.max_queries, query.size(0));
  check_offsets(kKeys, lengths.key_offsets, lengths.max_keys, key.size(0));
  at::Tensor heads_out = heads_first(out);
  at::Tensor row_logsumexp = logsumexp.defined() ? logsumexp.unsqueeze(0) : logsumexp;
  attend(kOp, heads_first(query), heads_first(key), heads_first(value),
         {std::nullopt, std::nullopt, causal, window, scale, &lengths}, heads_out, row_logsumexp);
}

at::Tensor packed_attention_cpu(const at::Tensor& query, const at::Tensor& key,
                                const at::Tensor& value, const at::Tensor& cu_seqlens,
                                c10::SymInt max_seqlen,
                                const std::optional<at::Tensor>& cu_seqlens_k,
                                std::optional<c10::SymInt> max_seqlen_k, bool causal,
                                std::optional<int64_t> window, std::optional<double> scale) {
  at::Tensor out = packed_attention_meta(query, key, value, cu_seqlens, max_seqlen, cu_seqlens_k,
                                         max_seqlen_k, causal, window, scale);
  attend_packed(query, key, value,
                packed_lengths(cu_seqlens, max_seqlen, cu_seqlens_k, max_seqlen_k), causal, window,
                scale, out, {});
  return out;
}

std::tuple<at::Tensor, at::Tensor> packed_attention_forward_cpu(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const at::Tensor& cu_seqlens, c10::SymInt max_seqlen,
    const std::optional<at::Tensor>& cu_seqlens_k, std::optional<c10::SymInt> max_seqlen_k,
    bool causal, std::optional<int64_t> window, std::optional<double> scale) {
  auto [out, logsumexp] = packed_attention_forward_meta(
      query, key, value, cu_seqlens, max_seqlen, cu_seqlens_k, max_seqlen_k, causal, window, scale);
  attend_packed(query, key, value,
                packed_lengths(cu_seqlens, max_seqlen, cu_seqlens_k, max_seqlen_k), causal, window,
                scale, out, logsumexp);
  return {out, logsumexp};
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, CPU, m) {
  m.impl("packed_attention", packed_attention_cpu);
  m.impl("_packed_attention_forward", packed_attention_forward_cpu);
}

}  // namespace masked_attn::cpu
