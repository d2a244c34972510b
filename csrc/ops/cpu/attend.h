// The attention kernel on tensors, for every operator that attends.
#pragma once

#include "../params.h"

namespace masked_attn::cpu {

// Fills `out` [batch, heads, queries, value_dim] and, if defined, `logsumexp`. All arguments are
// checked already.
void attend(const char* op, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
            const AttendOptions& options, at::Tensor& out, at::Tensor& logsumexp);

}  // namespace masked_attn::cpu
