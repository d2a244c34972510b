// The attention kernel on tensors, for every operator that attends.
#pragma once

#include <limits>

#include "../dispatch.h"
#include "../params.h"

namespace masked_attn {

inline at::Tensor& out_of(at::Tensor& result) { return result; }
inline at::Tensor& out_of(OutAndLogsumexp& result) { return std::get<0>(result); }
inline at::Tensor logsumexp_of(const at::Tensor&) { return {}; }
inline at::Tensor logsumexp_of(const OutAndLogsumexp& result) { return std::get<1>(result); }

// Fills `out` [batch, heads, queries, value_dim] and, if defined, `logsumexp`. All arguments are
// checked already, the sizes of the heads too.
template <class Device>
void attend(const Attention& attention, const at::Tensor& out, const at::Tensor& logsumexp) {
  const at::Tensor& query = attention.query;
  if (query.size(0) * query.size(1) * query.size(2) == 0) return;
  if (attention.key.size(2) == 0) {
    out.zero_();
    if (logsumexp.defined()) logsumexp.fill_(-std::numeric_limits<double>::infinity());
    return;
  }
  Call<AttentionParams> call = attention_call(attention, out, logsumexp);
  Device::run(attention.op, call.params, query);
}

}  // namespace masked_attn
