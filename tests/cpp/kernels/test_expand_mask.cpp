// expand_mask against the naive rule: exact, for every size of element.
#include <vector>

#include "support/cases.h"
#include "support/catch.h"
#include "support/run.h"

using namespace masked_attn_test;

namespace {

struct Fill {
  int64_t element_bytes;
  uint64_t bits;
};

// -inf and the lowest finite value of float16, bfloat16, float32 and float64.
constexpr Fill kFills[] = {{2, 0xfc00},     {2, 0xfbff},     {2, 0xff80},
                           {4, 0xff800000}, {4, 0xff7fffff}, {8, 0xffefffffffffffffull}};

std::vector<uint8_t> naive_expand(const Masks& m, const Fill& fill) {
  std::vector<uint8_t> out;
  for (int64_t b = 0; b < m.batch; ++b) {
    for (int64_t i = 0; i < m.queries; ++i) {
      for (int64_t j = 0; j < m.keys; ++j) {
        for (int64_t k = 0; k < fill.element_bytes; ++k) {
          out.push_back(visible(m, b, 0, i, j) ? 0 : static_cast<uint8_t>(fill.bits >> (8 * k)));
        }
      }
    }
  }
  return out;
}

std::vector<uint8_t> run_expand(const Kernels& kernels, const Masks& m, const Fill& fill,
                                const Workers& workers) {
  constexpr int64_t kGuardBytes = 64;
  const int64_t bytes = m.batch * m.queries * m.keys * fill.element_bytes;
  std::vector<uint8_t> out(bytes + kGuardBytes, 0xa5);
  masked_attn::ExpandParams p{};
  p.batch = m.batch;
  p.out = out.data();
  p.element_bytes = fill.element_bytes;
  p.fill_bits = fill.bits;
  p.mask = m.params();
  p.threads = {workers.parallel_for, workers.count};
  REQUIRE(kernels.expand_mask(p) == 0);
  for (int64_t k = bytes; k < bytes + kGuardBytes; ++k) REQUIRE(out[k] == 0xa5);
  out.resize(bytes);
  return out;
}

Masks sized(int64_t batch, int64_t queries, int64_t keys) {
  Masks m;
  m.batch = batch;
  m.queries = queries;
  m.keys = keys;
  return m;
}

}  // namespace

TEST_CASE("expand_mask at sizes around tiles, with every key mask and position") {
  int64_t turn = 0;
  for (int64_t queries : kLengths) {
    for (int64_t keys : kLengths) {
      ++turn;
      Random random(turn);
      Masks m = sized(1 + turn % 3, queries, keys);
      const PositionForm& position = kPositionForms[turn % kPositionFormCount];
      m.causal = position.causal;
      m.window = position.window;
      set_key_mask(&m, static_cast<KeyForm>(turn % kKeyForms), &random);
      const Fill& fill = kFills[turn % 6];
      const std::vector<uint8_t> expected = naive_expand(m, fill);
      INFO(describe(m) << ", fill " << fill.bits);
      for_each_isa([&](const Kernels& kernels, const char*) {
        const bool same =
            run_expand(kernels, m, fill, kAllWorkers[turn % kWorkersCount]) == expected;
        REQUIRE(same);
      });
    }
  }
}

TEST_CASE("expand_mask takes any nonzero byte for seen") {
  Masks m = sized(1, 1, 256);
  m.add_key_mask();
  for (int64_t j = 0; j < 256; ++j) m.key(0, j) = static_cast<uint8_t>(j);
  for_each_isa([&](const Kernels& kernels, const char*) {
    const std::vector<uint8_t> out = run_expand(kernels, m, {2, 0xfc00}, kOneWorker);
    REQUIRE(out[1] == 0xfc);
    for (size_t k = 2; k < out.size(); ++k) REQUIRE(out[k] == 0);
  });
}

TEST_CASE("expand_mask of nothing writes nothing") {
  for_each_isa([&](const Kernels& kernels, const char*) {
    REQUIRE(run_expand(kernels, sized(0, 3, 4), {4, 1}, kOneWorker).empty());
    REQUIRE(run_expand(kernels, sized(2, 0, 4), {4, 1}, kOneWorker).empty());
    REQUIRE(run_expand(kernels, sized(2, 3, 0), {4, 1}, kOneWorker).empty());
  });
}
