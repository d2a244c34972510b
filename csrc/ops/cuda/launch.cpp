#include "launch.h"

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

namespace masked_attn::cuda {

Stream current_stream(const at::Tensor& tensor) {
  return c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream();
}

void check_status(const char* op, Status status) {
  if (status == 0) return;
  // The runtime remembers it, and the next call of anybody would report it.
  static_cast<void>(cudaGetLastError());
  const cudaError_t error = static_cast<cudaError_t>(status);
  TORCH_CHECK(
      error != cudaErrorNoKernelImageForDevice, op,
      ": this build of masked_attn has CUDA kernels for ", MASKED_ATTN_CUDA_TARGETS,
      ", and none for this GPU. Build again with -DMASKED_ATTN_CUDA_ARCHITECTURES=<yours>.");
  TORCH_CHECK(false, op, ": ", cudaGetErrorString(error));
}

}  // namespace masked_attn::cuda
