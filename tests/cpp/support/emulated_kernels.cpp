#include "support/emulated_kernels.h"

#include <cstdio>
#include <vector>

#include "kernels/cuda/kernels.h"
#include "support/cuda_schedule.h"

namespace masked_attn_test {
namespace {

namespace cuda = masked_attn::cuda;

template <class Launch>
int32_t scheduled(const masked_attn::Threads& threads, const Launch& launch) {
  const bool shuffled = threads.count > 1;
  set_schedule({shuffled ? "shuffled" : "in order",
                shuffled ? Schedule::Order::kShuffled : Schedule::Order::kInOrder,
                static_cast<uint64_t>(threads.count)});
  const cuda::Status status = launch();
  set_schedule({});
  if (status != 0) std::fprintf(stderr, "emulated CUDA: %s\n", last_failure().c_str());
  return status;
}

int32_t attention(const masked_attn::AttentionParams& params) {
  // Poisoned, so that a part that nobody wrote shows in the result.
  std::vector<char> workspace(cuda::attention_workspace(params), static_cast<char>(0xff));
  masked_attn::AttentionParams on_device = params;
  on_device.workspace.shared = workspace.data();
  return scheduled(params.threads, [&] { return cuda::attention(on_device, nullptr); });
}

int32_t masked_softmax(const masked_attn::SoftmaxParams& params) {
  return scheduled(params.threads, [&] { return cuda::masked_softmax(params, nullptr); });
}

int32_t expand_mask(const masked_attn::ExpandParams& params) {
  return scheduled(params.threads, [&] { return cuda::expand_mask(params, nullptr); });
}

int32_t append_cache(const masked_attn::AppendParams& params) {
  return scheduled(params.threads, [&] { return cuda::append_cache(params, nullptr); });
}

}  // namespace

const masked_attn::cpu::Kernels& emulated_cuda_kernels() {
  // linear has no CUDA kernel.
  static constexpr masked_attn::cpu::Kernels kKernels{attention, masked_softmax, expand_mask,
                                                      append_cache, nullptr};
  return kKernels;
}

}  // namespace masked_attn_test
