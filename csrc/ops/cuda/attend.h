// The attention kernels on tensors, for every operator that attends.
#pragma once

#include "../params.h"

namespace masked_attn::cuda {

// Raises if the heads are larger than the kernels take. Before anything is written.
void check_head_sizes(const char* op, const at::Tensor& query, const at::Tensor& value);

// Fills `out` [batch, heads, queries, value_dim] and, if defined, `logsumexp`. All arguments are
// checked already, the heads too. `position`, if defined, is where the new keys of a cache begin,
// read on the device; `key` is then the whole cache.
void attend(const char* op, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
            const AttendOptions& options, const at::Tensor& position, at::Tensor& out,
            at::Tensor& logsumexp);

}  // namespace masked_attn::cuda
