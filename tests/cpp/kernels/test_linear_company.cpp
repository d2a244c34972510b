// linear: a row has the same bits in any company, and NaN and Inf stay where they belong.
#include "kernels/cpu/plan.h"
#include "support/linear.h"

using namespace masked_attn_test;
namespace cpu = masked_attn::cpu;

namespace {

// Two cases of each dtype, one of each layout; every activation comes, with and without multiplier.
LinearCase case_of_turn(int64_t rows, int64_t inputs, int64_t outputs, int64_t turn) {
  const bool transposed = turn >= kLinearDTypeCount;
  LinearCase c = linear_case(rows, inputs, outputs, transposed, turn);
  c.activation = kActivations[(turn + transposed) % kActivationCount];
  return c;
}

void check_part(const Kernels& kernels, const LinearCase& all, const Tensor& expected, Range rows,
                const Workers& workers) {
  INFO("rows " << rows.begin << " to " << rows.end << ", " << workers.name);
  const Tensor found = run_linear(kernels, all.with_rows(rows), {workers});
  REQUIRE(bits_differ(found, expected.slice(0, rows)) == "");
}

}  // namespace

TEST_CASE("linear: a row has the same bits alone and in any batch, on any threads") {
  constexpr int64_t kRows = 40;
  for (int64_t turn = 0; turn < 2 * kLinearDTypeCount; ++turn) {
    const LinearCase all = case_of_turn(kRows, 1103, 150, turn);
    INFO(all.name());
    for_each_isa([&](const Kernels& kernels, const char*) {
      const Tensor expected = run_linear(kernels, all);
      REQUIRE(differs_from_double(expected, all) == "");
      for (const Workers& workers : kAllWorkers) {
        const Tensor found = run_linear(kernels, all, {workers, Layout::kGaps, 0x00});
        REQUIRE(bits_differ(found, expected) == "");
      }
      for (int64_t rows = 1; rows < kRows; ++rows) {
        const int64_t begin = rows * 7 % (kRows - rows + 1);
        check_part(kernels, all, expected, {begin, begin + rows},
                   kAllWorkers[rows % kWorkersCount]);
      }
    });
  }
}

TEST_CASE("linear: a row has the same bits on both sides of each loop's limits") {
  for (int64_t turn = 0; turn < 2 * kLinearDTypeCount; ++turn) {
    const LinearCase all = case_of_turn(2 * cpu::kLinearRows + 3, 550, 21, turn);
    INFO(all.name());
    for_each_isa([&](const Kernels& kernels, const char*) {
      const Tensor expected = run_linear(kernels, all);
      for (int64_t limit : {cpu::kStreamRows, cpu::kSquareRows, int64_t{12}, int64_t{24},
                            cpu::kFewRows, cpu::kPackedRows, cpu::kLinearRows}) {
        for (int64_t rows : {limit - 1, limit, limit + 1}) {
          const int64_t begin = (limit + 13 * turn) % (all.input.rows() - rows);
          check_part(kernels, all, expected, {begin, begin + rows}, kAllWorkers[rows % 3]);
        }
      }
      const int64_t last = all.input.rows() - 1;
      check_part(kernels, all, expected, {last, last + 1}, kOneWorker);
    });
  }
}

TEST_CASE("linear: an output has the same bits among any other outputs") {
  for (int64_t turn = 0; turn < 2 * kLinearDTypeCount; ++turn) {
    for (int64_t rows : {3, 20}) {
      LinearCase all = case_of_turn(rows, 261, 1100, turn);
      all.multiplier.reset();
      INFO(all.name());
      for_each_isa([&](const Kernels& kernels, const char*) {
        const Tensor expected = run_linear(kernels, all);
        for (Range some : {Range{0, 1}, {383, 386}, {1023, 1025}, {1, 1000}, {1099, 1100}}) {
          LinearCase part = all;
          const int64_t count = some.end - some.begin;
          const DType dtype = all.weight.dtype();
          part.weight =
              all.transposed ? Tensor(dtype, 1, 1, 261, count) : Tensor(dtype, 1, 1, count, 261);
          part.weight.for_each([&](auto, auto, int64_t i, int64_t j) {
            part.weight.set(0, 0, i, j,
                            all.transposed ? all.weight.get(0, 0, i, some.begin + j)
                                           : all.weight.get(0, 0, some.begin + i, j));
          });
          if (all.bias) {
            part.bias = Tensor(dtype, 1, 1, 1, count);
            for (int64_t j = 0; j < count; ++j) {
              part.bias->set(0, 0, 0, j, all.bias->get(0, 0, 0, some.begin + j));
            }
          }
          INFO("outputs " << some.begin << " to " << some.end);
          const Tensor found = run_linear(kernels, part);
          found.for_each([&](auto, auto, int64_t m, int64_t n) {
            if (found.bits(0, 0, m, n) == expected.bits(0, 0, m, some.begin + n)) return;
            FAIL(place_text(0, 0, m, n) << " differs");
          });
        }
      });
    }
  }
}

TEST_CASE("linear: NaN and Inf stay in their row and their output") {
  for (int64_t rows : {int64_t{4}, int64_t{9}, cpu::kPackedRows + 5}) {
    for (int64_t turn = 0; turn < 2 * kLinearDTypeCount; ++turn) {
      const LinearCase clean = case_of_turn(rows, 301, 70, turn);
      LinearCase dirty = clean;
      dirty.input.set(0, 0, 1, 300, kNaN);
      dirty.input.set(0, 0, 3, 0, kInfinity);
      dirty.weight.set(0, 0, dirty.transposed ? 300 : 69, dirty.transposed ? 69 : 300, kNaN);
      INFO(clean.name());
      for_each_isa([&](const Kernels& kernels, const char*) {
        const Tensor expected = run_linear(kernels, clean);
        const Tensor out = run_linear(kernels, dirty);
        out.for_each([&](auto, auto, int64_t m, int64_t n) {
          const double found = out.get(0, 0, m, n);
          // +Inf stays so; relu makes 0 of -Inf, and the others NaN of it.
          const bool zero = clean.activation == Activation::kRelu && found == 0;
          const bool right = m == 1 || n == 69 ? std::isnan(found)
                             : m == 3          ? !std::isfinite(found) || zero
                                               : out.bits(0, 0, m, n) == expected.bits(0, 0, m, n);
          INFO(place_text(0, 0, m, n) << " is " << found);
          if (!right) FAIL("NaN or Inf is lost or reaches too far");
        });
      });
    }
  }
}
