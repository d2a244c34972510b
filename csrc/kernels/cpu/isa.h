// The instruction sets of the CPU kernels: which this build has, which this CPU can run, which one
// is used. `MASKED_ATTN_ISA` forces one; a set that can't be used is an error, never a quiet
// change.
#pragma once

#include "../api.h"
#include "../params.h"

namespace masked_attn::cpu {

// From the lowest to the highest.
enum class Isa : int32_t { kScalar, kAvx2, kAvx512, kAvx512Bf16, kAmx };
constexpr int32_t kIsaCount = 5;

struct Kernels {
  int32_t (*attention)(const AttentionParams&);
  int32_t (*masked_softmax)(const SoftmaxParams&);
  int32_t (*expand_mask)(const ExpandParams&);
  int32_t (*append_cache)(const AppendParams&);
  int32_t (*linear)(const LinearParams&);
};

MASKED_ATTN_KERNELS_API const char* isa_name(Isa isa);
MASKED_ATTN_KERNELS_API bool isa_built(Isa isa);
// Built, and the CPU and the operating system can run it. Asking for `amx` asks the kernel of Linux
// for its tiles, once per process.
MASKED_ATTN_KERNELS_API bool isa_supported(Isa isa);

// What the loops of a set that are not its own are made of: another set, or null. `amx` has only
// products of bfloat16 of its own.
MASKED_ATTN_KERNELS_API const char* isa_mixes(Isa isa);

// The kernels of one set; null when it is not supported.
MASKED_ATTN_KERNELS_API const Kernels* kernels_of(Isa isa);

struct IsaSelection {
  const Kernels* kernels;  // null when MASKED_ATTN_ISA names a set that can't be used
  Isa isa;
  const char* requested;  // the value of MASKED_ATTN_ISA, null when it is not set
};

// Reads MASKED_ATTN_ISA at the first call and keeps the answer.
MASKED_ATTN_KERNELS_API const IsaSelection& selected_isa();

// Writes into `text` why the requested set can't be used and which can.
constexpr int64_t kIsaErrorBytes = 256;
MASKED_ATTN_KERNELS_API void describe_isa_error(char (&text)[kIsaErrorBytes]);

}  // namespace masked_attn::cpu
