#include "attend.h"

#include <limits>

#include "launch.h"

namespace masked_attn::cuda {

void check_head_sizes(const char* op, const at::Tensor& query, const at::Tensor& value) {
  TORCH_CHECK(query.size(3) <= kMaxHeadDim && value.size(3) <= kMaxHeadDim, op,
              ": on CUDA heads have at most ", kMaxHeadDim, " elements, got head_dim ",
              query.size(3), " and value_dim ", value.size(3));
}

void attend(const char* op, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
            const AttendOptions& options, const at::Tensor& position, at::Tensor& out,
            at::Tensor& logsumexp) {
  if (query.size(0) * query.size(1) * query.size(2) == 0) return;
  if (key.size(2) == 0) {
    out.zero_();
    if (logsumexp.defined()) logsumexp.fill_(-std::numeric_limits<double>::infinity());
    return;
  }
  const c10::cuda::CUDAGuard guard(query.device());
  Call<AttentionParams> call = attention_call(query, key, value, options, out, logsumexp);
  if (position.defined()) call.params.device_position = position.const_data_ptr<int64_t>();
  const at::Tensor workspace =
      at::empty({attention_workspace(call.params)}, query.options().dtype(at::kByte));
  call.params.workspace.shared = static_cast<char*>(workspace.mutable_data_ptr());
  check_status(op, attention(call.params, current_stream(query)));
}

}  // namespace masked_attn::cuda
