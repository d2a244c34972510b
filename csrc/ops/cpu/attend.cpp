#include "attend.h"

#include <limits>

#include "../../kernels/cpu/plan.h"
#include "../masked_attention.h"
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
  const at::Tensor q = rows_contiguous(query);
  const at::Tensor k = rows_contiguous(key);
  const at::Tensor v = rows_contiguous(value);
  const std::optional<at::Tensor> full_mask =
      expand_attn_mask(options.attn_mask, {q.size(0), q.size(1), q.size(2), keys});
  AttentionParams params{};
  params.batch = q.size(0);
  params.heads = q.size(1);
  params.kv_heads = k.size(1);
  params.head_dim = q.size(3);
  params.value_dim = v.size(3);
  params.out = view_of(out);
  params.logsumexp = logsumexp.defined() ? logsumexp.mutable_data_ptr() : nullptr;
  params.query = view_of(q);
  params.key = view_of(k);
  params.value = view_of(v);
  params.mask =
      mask_params(options.key_mask, full_mask, q.size(2), keys, options.causal, options.window);
  params.scale = attention_scale(options.scale, params.head_dim);
  const double pairs = static_cast<double>(q.size(0) * q.size(1)) * q.size(2) * keys;
  params.threads = torch_threads(pairs * (q.size(3) + v.size(3)));
  const Scratch scratch(attention_workspace(params), params.threads);
  params.workspace = scratch.workspace();
  check_status(op, kernels().attention(params));
}

}  // namespace masked_attn::cpu
