// The few things that a kernel asks of the machine it runs on: its place in the grid, the barrier
// of its block, the lanes of its warp, shared memory, the launch. Kernels use nothing else, so the
// tests can run them on the CPU: with MASKED_ATTN_EMULATE_CUDA this page is answered by an emulator
// that also checks what a GPU would not.
//
// Grids and blocks have one dimension; a block is a whole number of warps; every thread of a warp
// takes part in each of its exchanges.
#pragma once

#include <stdint.h>

#if defined(MASKED_ATTN_EMULATE_CUDA)
#include "support/cuda_emulator.h"
#else
#include <cuda_runtime.h>

#define MASKED_ATTN_KERNEL __global__ void

namespace masked_attn::cuda {

constexpr int kWarp = 32;

// What a launch tells its caller: 0, or the code of a CUDA error.
using Status = int32_t;
using Stream = cudaStream_t;

__device__ inline int64_t block_index() { return blockIdx.x; }
__device__ inline int thread_index() { return static_cast<int>(threadIdx.x); }
__device__ inline int block_threads() { return static_cast<int>(blockDim.x); }
__device__ inline int lane_index() { return thread_index() % kWarp; }
__device__ inline int warp_index() { return thread_index() / kWarp; }

// All threads of the block meet here; what they wrote to shared memory is visible behind it.
__device__ inline void block_barrier() { __syncthreads(); }

// The value of the lane whose number differs from ours in the bits of `mask`.
template <class T>
__device__ inline T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
// The value of lane `lane`.
template <class T>
__device__ inline T shuffle(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
// Bit i is the answer of lane i.
__device__ inline uint32_t ballot(bool answer) { return __ballot_sync(0xffffffffu, answer); }

// An array in the shared memory of the block, `offset` bytes (a multiple of 16) from its beginning.
// Every access goes through get and set.
template <class T>
class Shared {
 public:
  __device__ Shared(int64_t offset, int64_t count) {
    extern __shared__ __align__(16) char masked_attn_shared[];
    data_ = reinterpret_cast<T*>(masked_attn_shared + offset);
    (void)count;
  }
  __device__ T get(int64_t i) const { return data_[i]; }
  __device__ void set(int64_t i, T value) const { data_[i] = value; }

 private:
  T* data_;
};

// Not with three angle brackets, which formatters and other compilers can't read. Starts
// `kernel(params)` on `blocks` blocks of `threads` threads. No blocks: no launch.
template <class Params>
inline Status launch(void (*kernel)(Params), int64_t blocks, int threads, int64_t shared_bytes,
                     Stream stream, const Params& params) {
  if (blocks == 0) return 0;
  if (blocks > INT32_MAX) return static_cast<Status>(cudaErrorInvalidConfiguration);
  constexpr int64_t kDefaultShared = 48 * 1024;
  if (shared_bytes > kDefaultShared) {
    const cudaError_t error = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
    if (error != cudaSuccess) return static_cast<Status>(error);
  }
  Params copy = params;
  void* arguments[] = {&copy};
  return static_cast<Status>(
      cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(static_cast<unsigned>(blocks)),
                       dim3(static_cast<unsigned>(threads)), arguments, shared_bytes, stream));
}

}  // namespace masked_attn::cuda
#endif
