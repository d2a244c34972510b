// What a call of a CUDA kernel needs besides its Params: the device, the current stream, errors
// that say what to do.
#pragma once

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>

#include "../../kernels/cuda/kernels.h"

namespace masked_attn::cuda {

// The current stream of the device of `tensor`. A c10::cuda::CUDAGuard makes the device current.
Stream current_stream(const at::Tensor& tensor);

// Raises if a launch failed; names the architectures of this build if the GPU has another.
void check_status(const char* op, Status status);

}  // namespace masked_attn::cuda
