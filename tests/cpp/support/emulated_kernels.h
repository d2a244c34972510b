// The CUDA kernels behind the doors of the CPU kernels, so that one set of cases tests both.
#pragma once

#include "kernels/cpu/isa.h"

namespace masked_attn_test {

// Device memory is host memory; more than one worker means another order of threads and blocks.
const masked_attn::cpu::Kernels& emulated_cuda_kernels();

}  // namespace masked_attn_test
