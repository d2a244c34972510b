#include "isa.h"

#include <stdlib.h>
#include <string.h>
#if MASKED_ATTN_X86_SETS && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

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
MASKED_ATTN_DECLARE_KERNELS(amx)
#endif
}  // namespace masked_attn

namespace masked_attn::cpu {
namespace {

constexpr const char* kNames[kIsaCount] = {"scalar", "avx2", "avx512", "avx512_bf16", "amx"};

#if MASKED_ATTN_X86_SETS
constexpr Kernels kKernels[kIsaCount] = {MASKED_ATTN_TABLE(scalar), MASKED_ATTN_TABLE(avx2),
                                         MASKED_ATTN_TABLE(avx512), MASKED_ATTN_TABLE(avx512_bf16),
                                         MASKED_ATTN_TABLE(amx)};
#else
constexpr Kernels kKernels[kIsaCount] = {MASKED_ATTN_TABLE(scalar)};
#endif

#if MASKED_ATTN_X86_SETS && defined(__linux__)
// Tiles of bfloat16: the CPU has them, the operating system saves them (XCR0 bits 17 and 18), and
// it lets this process use their 8 KB, which it must be asked for (arch_prctl(2)).
bool may_use_tiles() {
  uint32_t a, b, c, d;
  constexpr uint32_t kXgetbv = 1u << 27;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kXgetbv)) return false;
  constexpr uint32_t kTiles = 1u << 24 | 1u << 22;  // AMX-TILE, AMX-BF16
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kTiles) != kTiles) return false;
  constexpr uint32_t kSaved = 1u << 17 | 1u << 18;
  asm("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  if ((a & kSaved) != kSaved) return false;
  constexpr long kRequestPermission = 0x1023;
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#elif MASKED_ATTN_X86_SETS
bool may_use_tiles() { return false; }
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
  const bool avx512_bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
      return avx2;
    case Isa::kAvx512:
      return avx512;
    case Isa::kAvx512Bf16:
      return avx512_bf16;
    case Isa::kAmx: {
      static const bool tiles = avx512_bf16 && may_use_tiles();
      return tiles;
    }
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

const char* isa_mixes(Isa isa) { return isa == Isa::kAmx ? isa_name(Isa::kAvx512) : nullptr; }

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
