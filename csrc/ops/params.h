// From checked tensors to the Params of kernels, on any device: views, masks, sizes. Threads,
// streams and scratch memory are the devices' own business.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

#include "../kernels/params.h"
#include "attention_options.h"
#include "expand_mask.h"
#include "linear.h"
#include "masked_softmax.h"

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

// What the kernel of attention reads, whichever operator attends.
struct Attention {
  const char* op;
  const at::Tensor& query;  // [batch, heads, queries, head_dim]
  const at::Tensor& key;
  const at::Tensor& value;
  const AttentionOptions& options;
  const PackedLengths* packed = nullptr;     // then the tensors have a batch of 1, all sequences
  const int64_t* device_position = nullptr;  // of a cache, if only the device knows it
};

// Where a cache is written, and how many slots are keys afterwards.
struct CacheSlots {
  int64_t position;
  int64_t keys;
  // If only the device knows the position: then `position` is 0 and `keys` the capacity.
  const int64_t* device_position;
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
Call<AttentionParams> attention_call(const Attention& attention, const at::Tensor& out,
                                     const at::Tensor& logsumexp);

Call<SoftmaxParams> softmax_call(const MaskedSoftmax& op, const at::Tensor& out);

Call<ExpandParams> expand_call(const ExpandMask& op, const at::Tensor& out);

// Writes `source` [batch, heads, rows, columns] into `cache` from the first of `slots` on.
Call<AppendParams> append_call(const at::Tensor& source, const at::Tensor& cache,
                               const CacheSlots& slots);

// The weight is read where it lies if one of its dimensions is contiguous.
Call<LinearParams> linear_call(const Linear& op, const at::Tensor& out);

}  // namespace masked_attn
