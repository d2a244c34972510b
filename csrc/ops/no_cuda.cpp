// What tensors on a GPU hear from a library without CUDA kernels. It works with a CUDA build of
// torch, on tensors of the CPU. Left out where there are CUDA kernels.
#include "operators.h"

namespace {

void no_cuda(const c10::OperatorHandle& op, torch::jit::Stack*) {
  TORCH_CHECK_NOT_IMPLEMENTED(
      false, op.schema().name(),
      ": this library has no CUDA kernels, since when it was built " MASKED_ATTN_CUDA_REASON
      ". Move the tensors to the CPU, or install a CUDA build of torch and the CUDA toolkit (nvcc) "
      "of the same version, and build masked_attn again");
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, CUDA, m) {
  masked_attn::for_each_operator([&]<class Entry>(Entry) {
    m.impl(Entry::full_name().c_str(), torch::CppFunction::makeFromBoxedFunction<&no_cuda>());
  });
}
