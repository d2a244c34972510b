// Which instruction sets there are, which one is chosen, and what MASKED_ATTN_ISA does.
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "kernels/cpu/isa.h"
#include "support/catch.h"

using masked_attn::cpu::Isa;
using masked_attn::cpu::isa_name;
using masked_attn::cpu::isa_supported;
using masked_attn::cpu::IsaSelection;
using masked_attn::cpu::kernels_of;
using masked_attn::cpu::kIsaCount;

namespace {

Isa highest() {
  Isa best = Isa::kScalar;
  for (int32_t i = 0; i < kIsaCount; ++i) {
    if (isa_supported(static_cast<Isa>(i))) best = static_cast<Isa>(i);
  }
  return best;
}

// The choice is made once per process, so each question gets its own. True when `right(choice)`.
template <class Right>
bool in_fresh_process(const char* value, const Right& right) {
  const pid_t child = fork();
  if (child == 0) {
    if (value == nullptr) {
      unsetenv("MASKED_ATTN_ISA");
    } else {
      setenv("MASKED_ATTN_ISA", value, 1);
    }
    _exit(right(masked_attn::cpu::selected_isa()) ? 0 : 1);
  }
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("instruction sets have names, in order") {
  REQUIRE(isa_name(Isa::kScalar) == std::string("scalar"));
  REQUIRE(isa_name(Isa::kAvx2) == std::string("avx2"));
  REQUIRE(isa_name(Isa::kAvx512) == std::string("avx512"));
  REQUIRE(isa_name(Isa::kAvx512Bf16) == std::string("avx512_bf16"));
  REQUIRE(isa_name(Isa::kAmx) == std::string("amx"));
}

TEST_CASE("only amx takes loops of another set") {
  for (int32_t i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    const char* mixes = masked_attn::cpu::isa_mixes(isa);
    REQUIRE((mixes != nullptr) == (isa == Isa::kAmx));
    if (mixes != nullptr) REQUIRE(mixes == std::string("avx512"));
  }
}

#if MASKED_ATTN_X86_SETS && defined(__linux__)
// What the kernel itself says of the CPU and of the tiles' place in memory.
TEST_CASE("amx is there only where Linux tells of its tiles and lets this process use them") {
  std::ifstream file("/proc/cpuinfo");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const bool tells = text.find(" amx_tile") != std::string::npos &&
                     text.find(" amx_bf16") != std::string::npos &&
                     text.find(" avx512_bf16") != std::string::npos;
  if (!tells) {
    REQUIRE_FALSE(isa_supported(Isa::kAmx));
    masked_attn_test::note_skipped("the permission to use tiles", "this CPU lacks AMX");
    return;
  }
  constexpr long kGetPermission = 0x1022;
  const bool supported = isa_supported(Isa::kAmx);
  uint64_t permitted = 0;
  // A kernel that does not know the question gives no permission.
  if (syscall(SYS_arch_prctl, kGetPermission, &permitted) != 0) permitted = 0;
  REQUIRE(supported == ((permitted >> 18 & 1) != 0));
}
#endif

TEST_CASE("scalar is always there") {
  REQUIRE(masked_attn::cpu::isa_built(Isa::kScalar));
  REQUIRE(isa_supported(Isa::kScalar));
}

TEST_CASE("a supported set has every kernel, another has none") {
  for (int32_t i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    const masked_attn::cpu::Kernels* kernels = kernels_of(isa);
    INFO(isa_name(isa));
    REQUIRE((kernels != nullptr) == isa_supported(isa));
    if (kernels == nullptr) continue;
    REQUIRE(masked_attn::cpu::isa_built(isa));
    REQUIRE(kernels->attention != nullptr);
    REQUIRE(kernels->masked_softmax != nullptr);
    REQUIRE(kernels->expand_mask != nullptr);
    REQUIRE(kernels->append_cache != nullptr);
    REQUIRE(kernels->linear != nullptr);
  }
}

TEST_CASE("the sets are different code") {
  for (int32_t i = 1; i < kIsaCount; ++i) {
    if (!isa_supported(static_cast<Isa>(i))) continue;
    const auto* lower = kernels_of(static_cast<Isa>(i - 1));
    if (lower == nullptr) continue;
    REQUIRE(kernels_of(static_cast<Isa>(i))->attention != lower->attention);
  }
}

TEST_CASE("MASKED_ATTN_ISA unset or empty chooses the highest supported set") {
  for (const char* value : {static_cast<const char*>(nullptr), ""}) {
    REQUIRE(in_fresh_process(value, [](const IsaSelection& selection) {
      return selection.isa == highest() && selection.kernels == kernels_of(highest()) &&
             selection.requested == nullptr;
    }));
  }
}

TEST_CASE("MASKED_ATTN_ISA forces each set, and fails where it can't be used") {
  for (int32_t i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    INFO(isa_name(isa));
    REQUIRE(in_fresh_process(isa_name(isa), [isa](const IsaSelection& selection) {
      return selection.kernels == kernels_of(isa) &&
             (selection.kernels == nullptr || selection.isa == isa) &&
             std::strcmp(selection.requested, isa_name(isa)) == 0;
    }));
  }
}

TEST_CASE("MASKED_ATTN_ISA with an unknown name chooses nothing") {
  for (const char* value : {"sse9", "AVX2", "avx", "avx5120", " scalar"}) {
    INFO("'" << value << "'");
    REQUIRE(in_fresh_process(value, [value](const IsaSelection& selection) {
      return selection.kernels == nullptr && std::strcmp(selection.requested, value) == 0;
    }));
  }
}

TEST_CASE("the choice is made once") {
  REQUIRE(in_fresh_process("scalar", [](const IsaSelection& first) {
    setenv("MASKED_ATTN_ISA", "nonsense", 1);
    return &masked_attn::cpu::selected_isa() == &first && first.kernels != nullptr;
  }));
}
