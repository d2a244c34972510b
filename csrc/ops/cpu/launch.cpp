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
