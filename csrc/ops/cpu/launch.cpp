#include "launch.h"

#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <torch/csrc/stable/c/shim.h>

namespace masked_attn::cpu {
namespace {

// More than this is given back after the call.
constexpr int64_t kKeptBytes = int64_t{64} << 20;
// About ten microseconds of one thread.
constexpr double kSmallWork = 131072;

struct Kept {
  at::DataPtr memory;
  int64_t bytes = 0;
};

void* kept_memory(int64_t bytes) {
  thread_local Kept kept;
  if (kept.bytes < bytes) {
    kept.bytes = 0;  // should the allocation fail
    kept.memory.clear();
    kept.memory = c10::GetCPUAllocator()->allocate(bytes);
    kept.bytes = bytes;
  }
  return kept.memory.get();
}

}  // namespace

const Kernels& kernels() {
  const IsaSelection& selection = selected_isa();
  if (selection.kernels == nullptr) {
    char text[kIsaErrorBytes];
    describe_isa_error(text);
    TORCH_CHECK(false, text);
  }
  return *selection.kernels;
}

void check_status(const char* op, int32_t status) {
  TORCH_CHECK(status == 0, op, ": torch_parallel_for failed with code ", status);
}

DType to_dtype(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return DType::kFloat32;
    case at::kDouble:
      return DType::kFloat64;
    case at::kHalf:
      return DType::kFloat16;
    case at::kBFloat16:
      return DType::kBFloat16;
    default:
      return DType::kBool;
  }
}

at::Tensor rows_contiguous(const at::Tensor& tensor) {
  return tensor.size(-1) <= 1 || tensor.stride(-1) == 1 ? tensor : tensor.contiguous();
}

TensorView view_of(const at::Tensor& tensor) {
  return {const_cast<void*>(tensor.const_data_ptr()), to_dtype(tensor.scalar_type()),
          tensor.stride(0), tensor.stride(1), tensor.stride(2)};
}

MaskParams mask_params(const std::optional<at::Tensor>& key_mask,
                       const std::optional<at::Tensor>& attn_mask, int64_t queries, int64_t keys,
                       bool causal, std::optional<int64_t> window) {
  MaskParams params{};
  params.queries = queries;
  params.keys = keys;
  params.causal = causal;
  params.window = window.value_or(0);
  if (key_mask.has_value()) {
    params.key_mask = static_cast<const uint8_t*>(key_mask->const_data_ptr());
    params.key_mask_strides[0] = key_mask->stride(0);
    params.key_mask_strides[1] = key_mask->stride(1);
  }
  if (attn_mask.has_value()) {
    params.attn_mask = attn_mask->const_data_ptr();
    params.attn_mask_dtype = to_dtype(attn_mask->scalar_type());
    for (int64_t i = 0; i < 4; ++i) params.attn_mask_strides[i] = attn_mask->stride(i);
  }
  return params;
}

std::optional<at::Tensor> expand_attn_mask(const std::optional<at::Tensor>& attn_mask,
                                           at::IntArrayRef sizes) {
  if (!attn_mask.has_value()) return std::nullopt;
  return attn_mask->expand(sizes);
}

Threads torch_threads(double work) {
  const bool alone = work < kSmallWork || at::in_parallel_region();
  return {torch_parallel_for, alone ? 1 : at::get_num_threads()};
}

Scratch::Scratch(WorkspaceSize size, const Threads& threads) {
  const int64_t bytes = size.shared_bytes + size.worker_bytes * threads.count;
  char* memory;
  if (bytes <= kKeptBytes) {
    memory = static_cast<char*>(kept_memory(bytes));
  } else {
    own_ = c10::GetCPUAllocator()->allocate(bytes);
    memory = static_cast<char*>(own_.get());
  }
  workspace_ = {memory, memory + size.shared_bytes, size.worker_bytes};
}

}  // namespace masked_attn::cpu
