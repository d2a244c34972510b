// Sinks: a score of each head that takes weight and gives no value. The logsumexp is without them,
// so `out` must be what it is without, times sigmoid(logsumexp - sink).
#include "support/catch.h"
#include "support/score_parts.h"

using namespace masked_attn_test;

namespace {

void set_all(Tensor* values, double value) {
  values->for_each([&](auto... at) { values->set(at..., value); });
}

AttentionInputs masked_inputs(int64_t turn, Random* random) {
  AttentionInputs in = inputs_of_path(turn, turn, random);
  set_masks(&in.masks, turn * 5 % kMaskCount, random);
  return in;
}

}  // namespace

TEST_CASE("out with sinks is out without, times sigmoid(logsumexp - sink)") {
  for (int64_t turn = 0; turn < 90; ++turn) {
    Random random(turn);
    const AttentionInputs none = masked_inputs(turn, &random);
    AttentionInputs in = none;
    in.sinks = head_numbers(in, turn % 2, -100, 100, &random);
    INFO(describe(in));
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult without = run_attention(kernels, none);
      const AttentionResult with = run_attention(kernels, in);
      REQUIRE(bits_differ(with.logsumexp, without.logsumexp) == "");
      const DType dtype = in.query.dtype();
      with.out.for_each([&](auto b, auto h, auto i, auto d) {
        const double sink = head_value(in.sinks, 0, b, h);
        const double share = 1 / (1 + std::exp(sink - without.logsumexp.get(b, h, i, 0)));
        const double truth = without.out.get(b, h, i, d) * share;
        // Both results are rounded, and values are at most 1.
        const double bound = 2 * output_bound(dtype, share, std::fabs(sink), share) + 1e-37;
        const double found = with.out.get(b, h, i, d);
        if (!within(found, truth, bound)) {
          FAIL(difference_text("out", place_text(b, h, i, d), found, truth, bound));
        }
      });
    });
  }
}

TEST_CASE("sinks far above and far below the scores overflow nothing") {
  for (int64_t turn = 0; turn < 27; ++turn) {
    Random random(turn);
    const AttentionInputs none = masked_inputs(turn, &random);
    AttentionInputs in = none;
    in.sinks = head_numbers(in, false, 0, 0, &random);
    INFO(describe(in));
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult without = run_attention(kernels, none);
      for (double far : {-1000.0, -1e30}) {
        set_all(&in.sinks, far);
        REQUIRE(bits_differ(run_attention(kernels, in), without) == "");
      }
      for (double far : {1000.0, 1e30, kInfinity}) {
        set_all(&in.sinks, far);
        const AttentionResult found = run_attention(kernels, in);
        REQUIRE(bits_differ(found.logsumexp, without.logsumexp) == "");
        found.out.for_each([&](auto... at) {
          if (found.out.get(at...) != 0) FAIL("not 0 at " << place_text(at...));
        });
      }
    });
  }
}

TEST_CASE("sinks beside scores that are far from 0 themselves") {
  for (int64_t turn = 0; turn < 18; ++turn) {
    Random random(turn);
    AttentionInputs in = inputs_of_path(turn, 2 * (turn % 3), &random);
    // A bias moves all scores of a head; the sink stands beside them.
    AttnMask& mask = in.masks.add_attn(DType::kFloat32, {false, true, false, false});
    in.sinks = head_numbers(in, false, -1, 1, &random);
    for (int64_t h = 0; h < 4; ++h) {
      const double level = h % 2 ? 5000 : -5000;
      mask.set(0, h, 0, 0, level);
      in.sinks.set(0, h, 0, 0, level + in.sinks.get(0, h, 0, 0));
    }
    INFO(describe(in));
    const AttentionTruth truth(in);
    for_each_isa([&](const Kernels& kernels, const char*) {
      REQUIRE(truth.differs(run_attention(kernels, in)) == "");
    });
  }
}

TEST_CASE("a NaN sink shows in every row that sees something, and in no other") {
  for (int64_t turn = 0; turn < 54; ++turn) {
    Random random(turn);
    AttentionInputs in = masked_inputs(turn, &random);
    in.sinks = head_numbers(in, true, -1, 1, &random);
    in.sinks.set(1, 2, 0, 0, kNaN);
    INFO(describe(in));
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult found = run_attention(kernels, in);
      found.out.for_each([&](auto b, auto h, auto i, auto d) {
        const bool empty = found.logsumexp.get(b, h, i, 0) == -kInfinity;
        const double value = found.out.get(b, h, i, d);
        if (empty && found.out.bits(b, h, i, d) != 0) FAIL("not 0 at " << place_text(b, h, i, d));
        if (!empty && std::isnan(value) != (b == 1 && h == 2)) {
          FAIL("wrong NaN at " << place_text(b, h, i, d));
        }
      });
    });
  }
}

TEST_CASE("63: large values with sinks give the bits of ordinary ones, times a power of two") {
  constexpr int64_t kLargeDTypes[] = {0, 1, 3, 5};  // float16 holds no such number
  for (int64_t turn = 0; turn < 72; ++turn) {
    Random random(turn);
    AttentionInputs in = inputs_of_path(turn, kLargeDTypes[turn % 4], &random);
    set_masks(&in.masks, turn * 5 % kMaskCount, &random);
    // No weight may underflow, or a power of two would change bits.
    in.sinks = head_numbers(in, turn % 2, -3, 12, &random);
    const int exponent = in.query.dtype() == DType::kFloat64 ? 1023 : 127;
    const auto grow = [&](Tensor* tensor) {
      tensor->for_each(
          [&](auto... at) { tensor->set(at..., std::ldexp(tensor->get(at...), exponent)); });
    };
    AttentionInputs large = in;
    grow(&large.value);
    INFO(describe(in));
    const AttentionTruth truth(large);
    for_each_isa([&](const Kernels& kernels, const char*) {
      AttentionResult expected = run_attention(kernels, in);
      grow(&expected.out);
      const AttentionResult found = run_attention(kernels, large);
      REQUIRE(bits_differ(found, expected) == "");
      REQUIRE(truth.differs(found) == "");
    });
  }
}

TEST_CASE("63: a sink that takes all weight leaves 0 of the largest values") {
  for (int64_t turn = 0; turn < 9; ++turn) {
    Random random(turn);
    AttentionInputs in = inputs_of_path(turn, 0, &random);
    set_all(&in.value, lowest_finite(in.value.dtype()));
    in.sinks = head_numbers(in, false, 0, 0, &random);
    for (double sink : {200.0, kInfinity}) {
      set_all(&in.sinks, sink);
      for_each_isa([&](const Kernels& kernels, const char*) {
        const Tensor found = run_attention(kernels, in).out;
        found.for_each([&](auto... at) {
          if (found.get(at...) != 0) FAIL("not 0 at " << place_text(at...));
        });
      });
    }
  }
}
