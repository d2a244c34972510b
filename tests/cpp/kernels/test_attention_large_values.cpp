// Values near the largest number: their mean is finite whatever their sum is. Multiplying by a
// power of two changes no bit of a mean, so the bits are those of ordinary values.
#include "support/cases.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/packed.h"

using namespace masked_attn_test;

namespace {

constexpr int64_t kSizes[][2] = {{1, 7},  {1, 70},  {1, 256}, {1, 700}, {2, 8},
                                 {5, 16}, {9, 300}, {50, 70}, {70, 131}};

// float16 holds no number that could leave float32.
constexpr DTypePair kLargePairs[] = {kDTypePairs[0], kDTypePairs[1], kDTypePairs[3],
                                     kDTypePairs[5]};

int exponent_of(DType dtype) { return dtype == DType::kFloat64 ? 1023 : 127; }

AttentionInputs inputs_for(int64_t turn, int64_t queries, int64_t keys, Random* random) {
  AttentionShape shape;
  shape.batch = 2;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.queries = queries;
  shape.keys = keys;
  shape.head_dim = turn % 2 ? 17 : 16;
  shape.value_dim = turn % 3 ? 21 : 64;
  shape.dtypes = kLargePairs[turn % 4];
  AttentionInputs in = make_inputs(shape, random);
  set_masks(&in.masks, turn * 5 % kMaskCount, random);
  return in;
}

// Columns from `first` on become as large as they can be; their results are known from `tensor`.
Tensor grown(const Tensor& tensor, int64_t first, int exponent) {
  Tensor large = tensor;
  tensor.for_each([&](auto b, auto h, auto i, auto d) {
    if (d >= first) large.set(b, h, i, d, std::ldexp(tensor.get(b, h, i, d), exponent));
  });
  return large;
}

}  // namespace

TEST_CASE("63: large values give the bits of ordinary ones, times a power of two") {
  for (int64_t turn = 0; turn < 108; ++turn) {
    const auto& size = kSizes[turn % 9];
    Random random(turn);
    const AttentionInputs in = inputs_for(turn, size[0], size[1], &random);
    const int exponent = exponent_of(in.value.dtype());
    const int64_t first = turn % 2 ? 5 : 0;  // columns before it are ordinary
    AttentionInputs large = in;
    large.value = grown(in.value, first, exponent);
    const AttentionTruth truth(large);
    INFO(describe(in) << ", turn " << turn);
    for_each_isa([&](const Kernels& kernels, const char*) {
      AttentionResult expected = run_attention(kernels, in);
      expected.out = grown(expected.out, first, exponent);
      const RunOptions options{kAllWorkers[turn % kWorkersCount], kLayouts[turn % 3],
                               static_cast<uint8_t>(turn % 2 ? 0xff : 0x00)};
      const AttentionResult found = run_attention(kernels, large, options);
      REQUIRE(bits_differ(found, expected) == "");
      if (first == 0) REQUIRE(truth.differs(found) == "");
    });
  }
}

TEST_CASE("63: the largest value itself is a mean of itself") {
  for (int64_t turn = 0; turn < 36; ++turn) {
    const auto& size = kSizes[turn % 9];
    Random random(turn);
    AttentionInputs in = inputs_for(turn, size[0], size[1], &random);
    in.masks = Masks{2, 4, size[0], size[1]};
    const double largest =
        turn % 2 ? lowest_finite(in.value.dtype()) : -lowest_finite(in.value.dtype());
    in.value.for_each([&](auto b, auto h, auto i, auto d) { in.value.set(b, h, i, d, largest); });
    INFO(describe(in));
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult found = run_attention(kernels, in);
      const double near = 64 * epsilon(compute_dtype(in.query.dtype()));
      found.out.for_each([&](auto b, auto h, auto i, auto d) {
        const double ratio = found.out.get(b, h, i, d) / largest;
        if (!within(ratio, 1, near)) FAIL("wrong at " << place_text(b, h, i, d));
      });
    });
  }
}

TEST_CASE("63: packed rows of large values have the bits of each alone") {
  const std::vector<Lengths> lengths = {{1, 600}, {1, 30}, {9, 30}, {5, 5}, {60, 100}, {2, 300}};
  for (int64_t turn = 0; turn < 4; ++turn) {
    Random random(turn);
    AttentionShape shape;
    shape.heads = 2;
    shape.dtypes = kLargePairs[turn];
    PackedInputs in = make_packed(shape, lengths, turn % 2, 0, &random);
    const int exponent = exponent_of(shape.dtypes.cache);
    in.all.value = grown(in.all.value, 0, exponent);
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult packed = run_packed(kernels, in, false);
      for (size_t n = 0; n < lengths.size(); ++n) {
        AttentionResult alone = run_attention(kernels, in.rows[n]);
        alone.out = grown(alone.out, 0, exponent);
        REQUIRE(bits_differ(rows_of(packed, in.queries(n)), alone) == "");
      }
    });
  }
}

TEST_CASE("63: NaN and Inf among large values show where they are seen, as among others") {
  for (int64_t turn = 0; turn < 27; ++turn) {
    const auto& size = kSizes[turn % 9];
    const double garbage[] = {kNaN, kInfinity, -kInfinity};
    Random random(turn);
    AttentionInputs in = inputs_for(turn, size[0], size[1], &random);
    const int64_t j = random.below(size[1]);
    in.value.set(1, 1, j, 3, garbage[turn / 9]);
    AttentionInputs large = in;
    large.value = grown(in.value, 0, exponent_of(in.value.dtype()));
    INFO(describe(in) << ", key " << j);
    for_each_isa([&](const Kernels& kernels, const char*) {
      AttentionResult expected = run_attention(kernels, in);
      expected.out = grown(expected.out, 0, exponent_of(in.value.dtype()));
      REQUIRE(bits_differ(run_attention(kernels, large), expected) == "");
    });
  }
}
