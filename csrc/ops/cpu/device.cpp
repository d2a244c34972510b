#include "device.h"

#include <algorithm>

#include "../../kernels/cpu/plan.h"
#include "../any_device/operators.h"
#include "launch.h"

namespace masked_attn::cpu {
namespace {

// In double: products of sizes may be beyond int64.
template <class... Sizes>
double product(Sizes... sizes) {
  return (static_cast<double>(sizes) * ...);
}

}  // namespace

CacheSlots Device::slots(const at::Tensor& position, int64_t queries, int64_t capacity) {
  const int64_t wanted = *position.const_data_ptr<int64_t>();
  return slots_on_host(std::clamp<int64_t>(wanted, 0, capacity - queries), queries);
}

void Device::run(const char* op, AttentionParams& params, const at::Tensor&) {
  const MaskParams& mask = params.mask;
  const bool packed = mask.packed.query_offsets != nullptr;
  const double rows =
      packed ? product(mask.packed.all_queries) : product(params.batch, mask.queries);
  const double pairs = rows * product(params.heads, mask.keys);
  params.threads = torch_threads(pairs * product(params.head_dim + params.value_dim));
  const Scratch scratch(attention_workspace(params), params.threads);
  params.workspace = scratch.workspace();
  check_status(op, kernels().attention(params));
}

void Device::run(const char* op, SoftmaxParams& params, const at::Tensor&) {
  const MaskParams& mask = params.mask;
  params.threads = torch_threads(product(params.batch, params.heads, mask.queries, mask.keys));
  const Scratch scratch(softmax_workspace(params), params.threads);
  params.workspace = scratch.workspace();
  check_status(op, kernels().masked_softmax(params));
}

void Device::run(const char* op, ExpandParams& params, const at::Tensor&) {
  params.threads = torch_threads(product(params.batch, params.mask.queries, params.mask.keys));
  check_status(op, kernels().expand_mask(params));
}

void Device::run(const char* op, AppendParams& params, const at::Tensor&) {
  params.threads = torch_threads(product(params.batch, params.heads, params.rows, params.columns));
  check_status(op, kernels().append_cache(params));
}

void Device::linear(const Linear& op, at::Tensor& out) {
  Call<LinearParams> call = linear_call(op, out);
  LinearParams& params = call.params;
  params.threads = torch_threads(product(params.rows, params.inputs, params.outputs));
  const Scratch scratch(linear_workspace(params), params.threads);
  params.workspace = scratch.workspace();
  check_status(op.kName, kernels().linear(params));
}

TORCH_LIBRARY_IMPL(masked_attn, CPU, m) { register_kernels<Device>(m); }

}  // namespace masked_attn::cpu
