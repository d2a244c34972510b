// What a call of a CUDA kernel needs besides its Params: the device, the current stream, errors
// that say what to do.
#pragma once

#include <ATen/ATen.h>

#include "../../kernels/cuda/kernels.h"

namespace masked_attn::cuda {

// Makes the device of `tensor` current for as long as it lives.
class OnDevice {
 public:
  explicit OnDevice(const at::Tensor& tensor);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  // The current stream of that device.
  Stream stream() const;

 private:
  int device_;
  int before_;
};

// Raises if a launch failed; names the architectures of this build if the GPU has another.
void check_status(const char* op, Status status);

}  // namespace masked_attn::cuda
