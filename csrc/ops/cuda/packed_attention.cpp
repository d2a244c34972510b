#include "../packed_attention.h"

#include <torch/library.h>

#include "attend.h"

namespace masked_attn::cuda {
namespace {

constexpr char kOp[] = "packed_attention";

// The values of the offsets are known to the device only; the kernels keep them in the tensors.
void attend_packed(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                   const PackedLengths& lengths, bool causal, std::optional<int64_t> window,
                   std::optional<double> scale, const at::Tensor& out,
                   const at::Tensor& logsumexp) {
  const at::Tensor q = heads_first(query);
  const at::Tensor v = heads_first(value);
  check_head_sizes(kOp, q, v);
  at::Tensor heads_out = heads_first(out);
  at::Tensor row_logsumexp = logsumexp.defined() ? logsumexp.unsqueeze(0) : logsumexp;
  attend(kOp, q, heads_first(key), v, {std::nullopt, std::nullopt, causal, window, scale, &lengths},
         {}, heads_out, row_logsumexp);
}

at::Tensor packed_attention_cuda(const at::Tensor& query, const at::Tensor& key,
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

std::tuple<at::Tensor, at::Tensor> packed_attention_forward_cuda(
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

TORCH_LIBRARY_IMPL(masked_attn, CUDA, m) {
  m.impl("packed_attention", packed_attention_cuda);
  m.impl("_packed_attention_forward", packed_attention_forward_cuda);
}

}  // namespace masked_attn::cuda
