// From checked tensors to the Params of kernels, on any device: views, masks, sizes. Threads,
// streams and scratch memory are the devices' own business.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

#include "../kernels/params.h"

namespace masked_attn {

// The tensor itself if its last dimension is contiguous, else a copy.
at::Tensor rows_contiguous(const at::Tensor& tensor);

struct AttendOptions {
  const std::optional<at::Tensor>& key_mask;
  const std::optional<at::Tensor>& attn_mask;
  bool causal;
  std::optional<int64_t> window;
  std::optional<double> scale;
};

// Params together with the tensors whose memory they name.
template <class Params>
struct Call {
  std::vector<at::Tensor> tensors;
  Params params{};
};

// Fills `out` [batch, heads, queries, value_dim] and, if defined, `logsumexp`.
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

}  // namespace masked_attn
