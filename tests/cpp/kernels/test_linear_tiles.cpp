// linear of bfloat16 in tiles: every bit is that of the definition (kernels/cpu/tiles.h), written
// down here a second time in plain loops. Runs on the stand-in, and on real tiles where the CPU has
// them. Results are stored in float32, so that no bit of a sum is lost.
#include <cfloat>
#include <optional>
#include <vector>

#include "support/catch.h"
#include "support/compare.h"
#include "support/run.h"

#if MASKED_ATTN_X86_SETS
#include <xmmintrin.h>
#endif

using namespace masked_attn_test;

namespace {

struct Case {
  Tensor input;   // [1, 1, rows, inputs]
  Tensor weight;  // [1, 1, outputs, inputs], or [1, 1, inputs, outputs]
  std::optional<Tensor> bias;
  bool transposed;

  int64_t rows() const { return input.rows(); }
  int64_t inputs() const { return input.columns(); }
  int64_t outputs() const { return transposed ? weight.columns() : weight.rows(); }
  float x(int64_t m, int64_t k) const { return static_cast<float>(input.get(0, 0, m, k)); }
  float w(int64_t n, int64_t k) const {
    return static_cast<float>(transposed ? weight.get(0, 0, k, n) : weight.get(0, 0, n, k));
  }
};

Case make_case(int64_t rows, int64_t inputs, int64_t outputs, bool transposed, uint64_t seed) {
  Random random(seed);
  const Layout layout = seed % 2 ? Layout::kGaps : Layout::kHeadMajor;
  Case c;
  c.transposed = transposed;
  c.input = Tensor(DType::kBFloat16, 1, 1, rows, inputs, layout).randomize(&random);
  c.weight = Tensor(DType::kBFloat16, 1, 1, transposed ? inputs : outputs,
                    transposed ? outputs : inputs, layout)
                 .randomize(&random);
  if (seed % 3) c.bias = Tensor(DType::kBFloat16, 1, 1, 1, outputs).randomize(&random);
  return c;
}

// Exponents all over the range: products that underflow, operands that are denormal.
void spread_exponents(Tensor* values, Random* random, int lowest, int highest) {
  values->for_each([&](auto... at) {
    const int exponent = lowest + static_cast<int>(random->below(highest - lowest + 1));
    values->set(at..., std::ldexp(values->get(at...), exponent));
  });
}

Tensor run(const Kernels& kernels, const Case& c, const RunOptions& options = {}) {
  Tensor out(DType::kFloat32, 1, 1, c.rows(), c.outputs(), options.out_layout);
  masked_attn::LinearParams p{};
  p.rows = c.rows();
  p.inputs = c.inputs();
  p.outputs = c.outputs();
  p.out = out.view();
  p.input = c.input.view();
  p.weight = c.weight.view();
  if (c.bias) p.bias = c.bias->view();
  p.transposed = c.transposed;
  run_guarded(kernels.linear, p, masked_attn::cpu::linear_workspace(p), options, out);
  return out;
}

float flushed(float x) { return std::fabs(x) < FLT_MIN ? std::copysign(0.0f, x) : x; }

// a * b + sum with one rounding; a result is flushed if it is below the smallest normal number when
// rounded as if exponents had no end.
float multiply_add(float a, float b, float sum) {
  a = flushed(a);
  b = flushed(b);
  const float result = std::fma(a, b, sum);
  if (std::fabs(result) > FLT_MIN) return result;
  const double exact = static_cast<double>(a) * b + sum;
  const bool tiny = std::fabs(static_cast<float>(exact * 0x1p64)) < FLT_MIN * 0x1p64f;
  return tiny ? std::copysign(0.0f, result) : result;
}

enum class Order { kTiles, kOneChain };

float sum_of_group(const Case& c, int64_t m, int64_t n, Range inputs, float total, Order order) {
  float even = 0, odd = 0;
  for (int64_t k = inputs.begin; k < inputs.end; ++k) {
    float* chain = order == Order::kOneChain ? &total : k % 2 ? &odd : &even;
    *chain = multiply_add(c.x(m, k), c.w(n, k), *chain);
  }
  return order == Order::kOneChain ? total : flushed(total + flushed(even + odd));
}

float expected(const Case& c, int64_t m, int64_t n, Order order = Order::kTiles) {
  float total = 0;
  for (int64_t panel = 0; panel < c.inputs(); panel += 256) {
    float sum = 0;
    for (int64_t k = panel; k < std::min(panel + 256, c.inputs()); k += 32) {
      sum = sum_of_group(c, m, n, {k, std::min(k + 32, c.inputs())}, sum, order);
    }
    total = panel == 0 ? sum : flushed(total + sum);
  }
  const float bias = c.bias ? static_cast<float>(c.bias->get(0, 0, 0, n)) : 0;
  return total + bias;
}

int64_t count_unequal(const Tensor& out, const Case& c, Order order = Order::kTiles) {
  int64_t unequal = 0;
  out.for_each([&](auto, auto, int64_t m, int64_t n) {
    const float wanted = expected(c, m, n, order);
    uint32_t bits;
    std::memcpy(&bits, &wanted, sizeof(bits));
    unequal += out.bits(0, 0, m, n) != bits;
  });
  return unequal;
}

// Calls body(kernels) for the stand-in, and for real tiles.
template <class Body>
void for_each_tiles(const Body& body) {
  if (const Kernels* real = masked_attn::cpu::kernels_of(Isa::kAmx)) {
    INFO("real tiles");
    body(*real);
  } else {
    note_skipped("tiles of AMX", "this CPU lacks them: the stand-in runs alone");
  }
  if (const Kernels* stand_in = amx_stand_in()) {
    INFO("stand-in");
    body(*stand_in);
  } else {
    note_skipped("the stand-in for tiles of AMX", "this CPU lacks AVX2");
  }
}

void check(int64_t rows, int64_t inputs, int64_t outputs, uint64_t seed) {
  for (bool transposed : {false, true}) {
    const Case c = make_case(rows, inputs, outputs, transposed, seed);
    INFO(rows << " rows, " << inputs << " inputs, " << outputs << " outputs"
              << (transposed ? ", transposed" : ""));
    for_each_tiles([&](const Kernels& kernels) {
      const RunOptions options{kAllWorkers[seed % kWorkersCount],
                               seed % 4 ? Layout::kGaps : Layout::kHeadMajor};
      REQUIRE(count_unequal(run(kernels, c, options), c) == 0);
    });
  }
}

}  // namespace

TEST_CASE("tiles: all bits of linear are those of the definition, at sizes around tiles") {
  constexpr int64_t kInputs[] = {1, 2, 16, 31, 32, 33, 63, 64, 96};
  constexpr int64_t kOutputs[] = {1, 8, 15, 16, 17, 31, 32, 33, 65};
  constexpr int64_t kRows[] = {1, 2, 3, 4, 5, 8, 15, 16, 17, 20, 31, 32, 33, 37, 48, 49};
  uint64_t seed = 0;
  for (int64_t inputs : kInputs) {
    for (int64_t outputs : kOutputs) {
      check(kRows[seed % 16], inputs, outputs, seed);
      ++seed;
    }
  }
}

TEST_CASE("tiles: all bits of linear are those of the definition, over panels and blocks") {
  uint64_t seed = 1;
  for (int64_t inputs : {255, 256, 257, 288, 511, 513, 769}) {
    for (int64_t rows : {3, 16, 37}) check(rows, inputs, 33, seed++);
  }
  check(2, 40, 1200, seed++);   // several blocks of outputs
  check(20, 300, 400, seed++);  // sums of absent rows have no place
  check(97, 270, 40, seed++);   // more rows than are packed at a time
  check(801, 33, 17, seed++);   // more than a worker keeps totals of
  check(1, 11008, 5, seed++);
}

TEST_CASE("tiles: denormal operands and results count as 0, as in the definition") {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    Case c = make_case(seed % 2 ? 3 : 21, 100, 20, seed % 4 < 2, seed);
    Random random(seed);
    if (seed < 6) {
      spread_exponents(&c.input, &random, -70, -55);
      spread_exponents(&c.weight, &random, -70, -55);
    } else {
      spread_exponents(&c.input, &random, -132, -120);
      spread_exponents(&c.weight, &random, -5, 8);
    }
    c.bias.reset();
    for_each_tiles([&](const Kernels& kernels) {
      const Tensor out = run(kernels, c);
      int64_t zeros = 0;
      out.for_each([&](auto... at) { zeros += out.get(at...) == 0; });
      REQUIRE(count_unequal(out, c) == 0);
      // The case is one: some sums vanish, others do not.
      REQUIRE(zeros < out.rows() * out.columns());
    });
  }
}

TEST_CASE("tiles: another order of sums has other bits") {
  const Case c = make_case(32, 512, 64, false, 7);
  for_each_tiles([&](const Kernels& kernels) {
    const Tensor out = run(kernels, c);
    REQUIRE(count_unequal(out, c) == 0);
    REQUIRE(count_unequal(out, c, Order::kOneChain) > 32 * 64 / 4);
  });
}

TEST_CASE("tiles: a row has all the same bits in any number of rows, on any threads") {
  for (bool transposed : {false, true}) {
    const Case all = make_case(70, 603, 150, transposed, 5);
    for_each_tiles([&](const Kernels& kernels) {
      const Tensor expected = run(kernels, all);
      for (int64_t rows = 1; rows <= 70; rows += rows < 40 ? 1 : 7) {
        const int64_t first = (rows * 11) % (70 - rows + 1);
        Case some = all;
        some.input = all.input.slice(0, {first, first + rows}, Layout::kGaps);
        INFO(rows << " rows from " << first);
        const Tensor found = run(kernels, some, {kAllWorkers[rows % kWorkersCount]});
        REQUIRE(bits_differ(found, expected.slice(0, {first, first + rows})) == "");
      }
    });
  }
}

#if MASKED_ATTN_X86_SETS
TEST_CASE("tiles: the caller's treatment of denormals comes back, and does not matter") {
  Case c = make_case(9, 100, 40, true, 3);
  Random random(3);
  spread_exponents(&c.input, &random, -70, -55);
  spread_exponents(&c.weight, &random, -70, -55);
  const uint32_t usual = _mm_getcsr();
  for_each_tiles([&](const Kernels& kernels) {
    const Tensor first = run(kernels, c);
    // Flags of what happened may stay; the controls may not change.
    REQUIRE((_mm_getcsr() & 0xffc0u) == (usual & 0xffc0u));
    _mm_setcsr(usual | 0x8040u);
    const Tensor second = run(kernels, c);
    const uint32_t after = _mm_getcsr();
    _mm_setcsr(usual);
    REQUIRE((after & 0xffc0u) == ((usual | 0x8040u) & 0xffc0u));
    REQUIRE(bits_differ(first, second) == "");
  });
}
#endif
