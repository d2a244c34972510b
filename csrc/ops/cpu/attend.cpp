#include "attend.h"

#include <limits>

#include "../../kernels/cpu/plan.h"
#include "launch.h"

namespace masked_attn::cpu {

void attend(const char* op, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
            const AttendOptions& options, at::Tensor& out, at::Tensor& logsumexp) {
  const int64_t keys = key.size(2);
  if (query.size(0) * query.size(1) * query.size(2) == 0) return;
  if (keys == 0) {
    out.zero_();
    if (logsumexp.defined()) logsumexp.fill_(-std::numeric_limits<double>::infinity());
    return;
  }
  Call<AttentionParams> call = attention_call(query, key, value, options, out, logsumexp);
  AttentionParams& params = call.params;
  const double rows = static_cast<double>(query.size(0) * query.size(2));
  const double pairs = rows * params.heads * params.mask.keys;
  params.threads = torch_threads(pairs * (params.head_dim + params.value_dim));
  const Scratch scratch(attention_workspace(params), params.threads);
  params.workspace = scratch.workspace();
  check_status(op, kernels().attention(params));
}

}  // namespace masked_attn::cpu
