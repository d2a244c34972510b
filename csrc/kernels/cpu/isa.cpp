#include "isa.h"

#include <stdlib.h>
#include <string.h>

#include "kernels.h"

#define MASKED_ATTN_TABLE(target)                                                        \
  {target::attention, target::masked_softmax, target::expand_mask, target::append_cache, \
   target::linear}

namespace masked_attn {
MASKED_ATTN_DECLARE_KERNELS(scalar)
#if MASKED_ATTN_X86_SETS
MASKED_ATTN_DECLARE_KERNELS(avx2)
MASKED_ATTN_DECLARE_KERNELS(avx512)
MASKED_ATTN_DECLARE_KERNELS(avx512_bf16)
#endif
}  // namespace masked_attn

namespace masked_attn::cpu {
namespace {

constexpr const char* kNames[kIsaCount] = {"scalar", "avx2", "avx512", "avx512_bf16"};

#if MASKED_ATTN_X86_SETS
constexpr Kernels kKernels[kIsaCount] = {MASKED_ATTN_TABLE(scalar), MASKED_ATTN_TABLE(avx2),
                                         MASKED_ATTN_TABLE(avx512), MASKED_ATTN_TABLE(avx512_bf16)};
#else
constexpr Kernels kKernels[kIsaCount] = {MASKED_ATTN_TABLE(scalar), {}, {}, {}};
#endif

// The compiler's own check also asks the operating system whether it saves the registers.
bool cpu_runs(Isa isa) {
#if MASKED_ATTN_X86_SETS
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq");
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
      return avx2;
    case Isa::kAvx512:
      return avx512;
    case Isa::kAvx512Bf16:
      return avx512 && __builtin_cpu_supports("avx512bf16");
  }
#endif
  return isa == Isa::kScalar;
}

IsaSelection select() {
  const char* requested = getenv("MASKED_ATTN_ISA");
  if (requested != nullptr && requested[0] == '\0') requested = nullptr;
  IsaSelection selection{nullptr, Isa::kScalar, requested};
  for (int32_t i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    const bool wanted = requested == nullptr || strcmp(requested, kNames[i]) == 0;
    if (wanted && isa_supported(isa)) selection = {kernels_of(isa), isa, requested};
  }
  return selection;
}

}  // namespace

const char* isa_name(Isa isa) { return kNames[static_cast<int32_t>(isa)]; }

bool isa_built(Isa isa) { return kKernels[static_cast<int32_t>(isa)].attention != nullptr; }

bool isa_supported(Isa isa) { return isa_built(isa) && cpu_runs(isa); }

const Kernels* kernels_of(Isa isa) {
  return isa_supported(isa) ? &kKernels[static_cast<int32_t>(isa)] : nullptr;
}

const IsaSelection& selected_isa() {
  static const IsaSelection selection = select();
  return selection;
}

void describe_isa_error(char (&text)[kIsaErrorBytes]) {
  text[0] = '\0';
  const auto append = [&](const char* part) {
    strncat(text, part, kIsaErrorBytes - strlen(text) - 1);
  };
  const char* requested = selected_isa().requested;
  append("masked_attn: MASKED_ATTN_ISA=");
  append(requested != nullptr ? requested : "");
  append(" can't be used here; this CPU and this build have: ");
  for (int32_t i = 0; i < kIsaCount; ++i) {
    if (!isa_supported(static_cast<Isa>(i))) continue;
    append(i == 0 ? "" : ", ");
    append(kNames[i]);
  }
}

}  // namespace masked_attn::cpu
