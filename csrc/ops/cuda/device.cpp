#include "device.h"

#include "../any_device/operators.h"
#include "launch.h"

namespace masked_attn::cuda {

void Device::check_head_sizes(const char* op, int64_t head_dim, int64_t value_dim) {
  TORCH_CHECK(head_dim <= kMaxHeadDim && value_dim <= kMaxHeadDim, op,
              ": on CUDA heads have at most ", kMaxHeadDim, " elements, got head_dim ", head_dim,
              " and value_dim ", value_dim);
}

CacheSlots Device::slots(const at::Tensor& position, int64_t, int64_t capacity) {
  return {0, capacity, position.const_data_ptr<int64_t>()};
}

void Device::run(const char* op, AttentionParams& params, const at::Tensor& query) {
  const c10::cuda::CUDAGuard guard(query.device());
  const at::Tensor workspace =
      at::empty({attention_workspace(params)}, query.options().dtype(at::kByte));
  params.workspace.shared = static_cast<char*>(workspace.mutable_data_ptr());
  check_status(op, attention(params, current_stream(query)));
}

void Device::run(const char* op, SoftmaxParams& params, const at::Tensor& scores) {
  const c10::cuda::CUDAGuard guard(scores.device());
  check_status(op, cuda::masked_softmax(params, current_stream(scores)));
}

void Device::run(const char* op, ExpandParams& params, const at::Tensor& mask) {
  const c10::cuda::CUDAGuard guard(mask.device());
  check_status(op, cuda::expand_mask(params, current_stream(mask)));
}

void Device::run(const char* op, AppendParams& params, const at::Tensor& source) {
  const c10::cuda::CUDAGuard guard(source.device());
  check_status(op, append_cache(params, current_stream(source)));
}

void Device::linear(const Linear& op, at::Tensor& out) {
  const c10::cuda::CUDAGuard guard(op.input.device());
  torch_linear(op, out);
}

TORCH_LIBRARY_IMPL(masked_attn, CUDA, m) { register_kernels<Device>(m); }

}  // namespace masked_attn::cuda
