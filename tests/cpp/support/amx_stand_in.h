// The set `amx` with its tiles in plain code, for CPUs that have none (kernels/cpu/tiles.h).
#pragma once

#include "kernels/cpu/isa.h"
#include "kernels/cpu/kernels.h"

#if MASKED_ATTN_X86_SETS
namespace masked_attn {
MASKED_ATTN_DECLARE_KERNELS(amx_stand_in)
}  // namespace masked_attn
#endif

namespace masked_attn_test {

// Null where it can't run: it is compiled for AVX2.
inline const masked_attn::cpu::Kernels* amx_stand_in() {
#if MASKED_ATTN_X86_SETS
  namespace stand_in = masked_attn::amx_stand_in;
  static constexpr masked_attn::cpu::Kernels kernels = {
      stand_in::attention, stand_in::masked_softmax, stand_in::expand_mask, stand_in::append_cache,
      stand_in::linear};
  if (masked_attn::cpu::isa_supported(masked_attn::cpu::Isa::kAvx2)) return &kernels;
#endif
  return nullptr;
}

}  // namespace masked_attn_test
