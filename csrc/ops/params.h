// From checked tensors to the Params of kernels, on any device: views, masks, sizes. Threads,
// streams and scratch memory are the devices' own business.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

#include "../kernels/params.h"
#include "linear.h"

namespace masked_attn {

// The tensor itself if its last dimension is contiguous, else a copy.
at::Tensor rows_contiguous(const at::Tensor& tensor);

// Where sequences without padding begin and end, on the device of the query.
struct PackedLengths {
  at::Tensor query_offsets;  // int64 [batch + 1]
  at::Tensor key_offsets;    // the same tensor: as many keys as queries
  int64_t max_queries;
  int64_t max_keys;

  int64_t batch() const { return query_offsets.size(0) - 1; }
};

struct AttendOptions {
  std::optional<at::Tensor> key_mask;
  std::optional<at::Tensor> attn_mask;
  bool causal;
  std::optional<int64_t> window;
  std::optional<double> scale;
  const PackedLengths* packed = nullptr;  // then the tensors have a batch of 1, all sequences
};

// `cu_seqlens_k` and `max_seqlen_k` may be absent, then keys are where queries are.
PackedLengths packed_lengths(const at::Tensor& cu_seqlens, const c10::SymInt& max_seqlen,
                             const std::optional<at::Tensor>& cu_seqlens_k,
                             const std::optional<c10::SymInt>& max_seqlen_k);

// [tokens, heads, head_dim] as [1, heads, tokens, head_dim].
at::Tensor heads_first(const at::Tensor& tensor);

// Params together with the tensors whose memory they name.
template <class Params>
struct Call {
  std::vector<at::Tensor> tensors;
  Params params{};
};

// Fills `out` [batch, heads, queries, value_dim] and, if defined, `logsumexp` [batch, heads,
// queries].
Call<AttentionParams> attention_call(const at::Tensor& query, const at::Tensor& key,
                                     const at::Tensor& value, const AttendOptions& options,
                                     const at::Tensor& out, const at::Tensor& logsumexp);

Call<SoftmaxParams> softmax_call(const at::Tensor& scores,
                                 const std::optional<at::Tensor>& key_mask,
                                 const std::optional<at::Tensor>& attn_mask, bool causal,
                                 std::optional<int64_t> window, double scale,
                                 const at::Tensor& out);

Call<ExpandParams> expand_call(const at::Tensor& mask, bool causal, std::optional<int64_t> window,
                               std::optional<double> fill, const at::Tensor& out);

// Writes `source` [batch, heads, rows, columns] into `cache` from slot `position` on.
Call<AppendParams> append_call(const at::Tensor& source, const at::Tensor& cache, int64_t position);

// The weight is read where it lies if one of its dimensions is contiguous.
Call<LinearParams> linear_call(const at::Tensor& input, const at::Tensor& weight,
                               const std::optional<at::Tensor>& bias, const LinearOptions& options,
                               const at::Tensor& out);

}  // namespace masked_attn
