// linear against plain loops in double, and its bits in any company.
#include <optional>

#include "support/catch.h"
#include "support/compare.h"
#include "support/run.h"

using namespace masked_attn_test;

namespace {

// Of the input and of the weight.
constexpr DType kDTypes[][2] = {
    {DType::kFloat32, DType::kFloat32},  {DType::kBFloat16, DType::kBFloat16},
    {DType::kFloat32, DType::kBFloat16}, {DType::kFloat16, DType::kFloat16},
    {DType::kFloat32, DType::kFloat16},  {DType::kFloat64, DType::kFloat64},
};
constexpr int64_t kDTypeCount = sizeof(kDTypes) / sizeof(kDTypes[0]);

struct Case {
  Tensor input;   // [1, 1, rows, inputs]
  Tensor weight;  // [1, 1, outputs, inputs], or [1, 1, inputs, outputs]
  std::optional<Tensor> bias;
  bool transposed;

  double weight_at(int64_t n, int64_t k) const {
    return transposed ? weight.get(0, 0, k, n) : weight.get(0, 0, n, k);
  }
  int64_t outputs() const { return transposed ? weight.columns() : weight.rows(); }
};

Case make_case(int64_t rows, int64_t inputs, int64_t outputs, bool transposed, int64_t turn) {
  Random random(turn);
  const DType* dtypes = kDTypes[turn % kDTypeCount];
  // The layouts take turns more slowly, so that each dtype meets each of them.
  const int64_t layouts = turn / kDTypeCount;
  const Layout layout = layouts % 2 ? Layout::kGaps : Layout::kHeadMajor;
  Case c;
  c.transposed = transposed;
  c.input = Tensor(dtypes[0], 1, 1, rows, inputs, layout).randomize(&random);
  c.weight = Tensor(dtypes[1], 1, 1, transposed ? inputs : outputs, transposed ? outputs : inputs,
                    layouts % 3 ? Layout::kGaps : Layout::kHeadMajor)
                 .randomize(&random);
  if (turn % 5 != 0) c.bias = Tensor(dtypes[1], 1, 1, 1, outputs).randomize(&random);
  return c;
}

masked_attn::LinearParams params_of(const Case& c, const Tensor& out) {
  masked_attn::LinearParams p{};
  p.rows = c.input.rows();
  p.inputs = c.input.columns();
  p.outputs = c.outputs();
  p.out = out.view();
  p.input = c.input.view();
  p.weight = c.weight.view();
  if (c.bias) p.bias = c.bias->view();
  p.transposed = c.transposed;
  return p;
}

Tensor run(const Kernels& kernels, const Case& c, const RunOptions& options = {}) {
  Tensor out(c.input.dtype(), 1, 1, c.input.rows(), c.outputs(), options.out_layout);
  const masked_attn::LinearParams p = params_of(c, out);
  run_guarded(kernels.linear, p, masked_attn::cpu::linear_workspace(p), options, out);
  return out;
}

// A sum of K products, in chains of at most 64 or 1/lanes of K: errors grow with their size.
std::string differs(const Tensor& out, const Case& c) {
  const double step = epsilon(compute_dtype(out.dtype()));
  for (int64_t m = 0; m < out.rows(); ++m) {
    for (int64_t n = 0; n < out.columns(); ++n) {
      const double bias = c.bias ? c.bias->get(0, 0, 0, n) : 0;
      double truth = bias, size = std::fabs(bias);
      for (int64_t k = 0; k < c.input.columns(); ++k) {
        const double product = c.input.get(0, 0, m, k) * c.weight_at(n, k);
        truth += product;
        size += std::fabs(product);
      }
      const double bound = 4 * step * (size + 1) + storage_bound(out.dtype(), truth);
      if (within(out.get(0, 0, m, n), truth, bound)) continue;
      return difference_text("", place_text(0, 0, m, n), out.get(0, 0, m, n), truth, bound);
    }
  }
  return "";
}

void check(int64_t rows, int64_t inputs, int64_t outputs, int64_t turn) {
  for (bool transposed : {false, true}) {
    const Case c = make_case(rows, inputs, outputs, transposed, turn);
    INFO(rows << " rows, " << inputs << " inputs, " << outputs << " outputs, "
              << (transposed ? "transposed, " : "") << dtype_name(c.input.dtype()) << ", "
              << dtype_name(c.weight.dtype()));
    for_each_isa([&](const Kernels& kernels, const char*) {
      const RunOptions options{kAllWorkers[turn % kWorkersCount],
                               turn % 4 ? Layout::kGaps : Layout::kHeadMajor};
      REQUIRE(differs(run(kernels, c, options), c) == "");
    });
  }
}

Case with_rows(const Case& c, Range rows) {
  Case part = c;
  part.input = c.input.slice(0, rows, Layout::kGaps);
  return part;
}

}  // namespace

TEST_CASE("linear at sizes around vectors, strips, panels and register blocks") {
  constexpr int64_t kSizes[] = {1, 2, 7, 16, 31, 33, 63, 64, 65, 95, 96, 97, 130, 193};
  constexpr int64_t kRows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 17, 24, 25, 31, 32};
  int64_t turn = 0;
  for (int64_t inputs : kSizes) {
    for (int64_t outputs : kSizes) check(kRows[turn / 5 % 16], inputs, outputs, turn++);
    turn += 3;  // else an output size would meet the same dtypes again
  }
}

TEST_CASE("linear over several panels of inputs") {
  int64_t turn = 3;
  for (int64_t inputs : {383, 384, 385, 767, 769, 1536, 1537, 3071}) {
    for (int64_t i = 0; i < kDTypeCount; ++i, ++turn) {
      check(1 + (turn * 5 + inputs) % 32, inputs, 37, turn);
    }
  }
}

TEST_CASE("linear: a row has the same bits alone and in any batch, on any threads") {
  for (int64_t turn = 0; turn < 2 * kDTypeCount; ++turn) {
    const Case all = make_case(32, 1603, 150, turn >= kDTypeCount, turn);
    INFO(dtype_name(all.input.dtype()) << ", " << dtype_name(all.weight.dtype()));
    for_each_isa([&](const Kernels& kernels, const char*) {
      const Tensor expected = run(kernels, all);
      REQUIRE(differs(expected, all) == "");
      for (const Workers& workers : kAllWorkers) {
        REQUIRE(bits_differ(run(kernels, all, {workers, Layout::kGaps, 0x00}), expected) == "");
      }
      for (int64_t rows = 1; rows < 32; ++rows) {
        const Range part{(rows * 7) % (32 - rows + 1), (rows * 7) % (32 - rows + 1) + rows};
        INFO("rows " << part.begin << " to " << part.end);
        const RunOptions options{kAllWorkers[rows % kWorkersCount]};
        const Tensor found = run(kernels, with_rows(all, part), options);
        REQUIRE(bits_differ(found, expected.slice(0, part)) == "");
      }
    });
  }
}

TEST_CASE("linear: NaN and Inf stay in their row and their output") {
  for (int64_t turn = 0; turn < 2 * kDTypeCount; ++turn) {
    const Case clean = make_case(9, 131, 70, turn % 2 == 0, turn);
    Case dirty = clean;
    dirty.input.set(0, 0, 4, 130, kNaN);
    dirty.input.set(0, 0, 6, 0, kInfinity);
    if (dirty.transposed) {
      dirty.weight.set(0, 0, 130, 69, kNaN);
    } else {
      dirty.weight.set(0, 0, 69, 130, kNaN);
    }
    for_each_isa([&](const Kernels& kernels, const char*) {
      const Tensor expected = run(kernels, clean);
      const Tensor out = run(kernels, dirty);
      out.for_each([&](auto, auto, int64_t m, int64_t n) {
        const double found = out.get(0, 0, m, n);
        const bool right = m == 4 || n == 69 ? std::isnan(found)
                           : m == 6          ? !std::isfinite(found)
                                             : out.bits(0, 0, m, n) == expected.bits(0, 0, m, n);
        INFO(place_text(0, 0, m, n) << " is " << found);
        if (!right) FAIL("NaN or Inf is lost or reaches too far");
      });
    });
  }
}

TEST_CASE("linear: an error of the caller's threads comes back") {
  const Case c = make_case(2, 64, 512, true, 0);
  for_each_isa([&](const Kernels& kernels, const char*) {
    Tensor out(c.input.dtype(), 1, 1, 2, 512);
    masked_attn::LinearParams p = params_of(c, out);
    const auto size = masked_attn::cpu::linear_workspace(p);
    const GuardedMemory shared(1, size.shared_bytes, 0xff);
    const GuardedMemory workers(2, size.worker_bytes, 0xff);
    p.workspace = {shared.data(), workers.data(), workers.stride()};
    p.threads = {[](int64_t, int64_t, int64_t, masked_attn::ParallelFunc, void*) { return 7; }, 2};
    REQUIRE(kernels.linear(p) == 7);
  });
}
