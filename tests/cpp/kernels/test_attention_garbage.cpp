// NaN and Inf in keys and values: none reaches a query that does not see it, each reaches every
// query that does.
#include "support/cases.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace masked_attn_test;

namespace {

AttentionInputs inputs_for(int64_t turn, int64_t queries, int64_t keys, Random* random) {
  AttentionShape shape;
  shape.batch = 2;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.queries = queries;
  shape.keys = keys;
  // More slowly than the dtypes, so that each of them meets both: pairs and tiles need even heads.
  const int64_t slow = turn / kDTypePairCount;
  shape.head_dim = slow % 2 ? 17 : 16;
  shape.value_dim = slow % 3 ? 21 : 32;
  shape.dtypes = kDTypePairs[turn % kDTypePairCount];
  AttentionInputs in = make_inputs(shape, random);
  set_masks(&in.masks, turn % kMaskCount, random);
  return in;
}

// True when some query of some head that reads key head `kv_head` sees key j.
bool seen_by_any(const AttentionInputs& in, int64_t b, int64_t kv_head, int64_t j) {
  const int64_t group = in.query.heads() / in.key.heads();
  for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
    for (int64_t i = 0; i < in.query.rows(); ++i) {
      if (visible(in.masks, b, h, i, j)) return true;
    }
  }
  return false;
}

// One element of K or V in a batch row, key head and key.
struct Spot {
  bool in_value;
  int64_t b;
  int64_t kv_head;
  int64_t j;
  int64_t d;
};

std::string describe(const Spot& s) {
  return (s.in_value ? "value" : "key") + place_text(s.b, s.kv_head, s.j, s.d);
}

// Queries that see the spot must be non-finite there; all others keep the bits of `clean`.
std::string reach_differs(const AttentionInputs& in, const Spot& s, const AttentionResult& dirty,
                          const AttentionResult& clean) {
  std::string text;
  const int64_t group = in.query.heads() / in.key.heads();
  const auto sees = [&](int64_t b, int64_t h, int64_t i) {
    return b == s.b && h / group == s.kv_head && visible(in.masks, b, h, i, s.j);
  };
  dirty.out.for_each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    const bool touched = sees(b, h, i) && (!s.in_value || d == s.d);
    const bool right = touched ? !std::isfinite(dirty.out.get(b, h, i, d))
                               : dirty.out.bits(b, h, i, d) == clean.out.bits(b, h, i, d);
    if (!right) text = "out" + place_text(b, h, i, d) + (touched ? " lost it" : " caught it");
  });
  dirty.logsumexp.for_each([&](int64_t b, int64_t h, int64_t i, int64_t) {
    const bool touched = sees(b, h, i) && !s.in_value;
    const bool right = touched
                           ? std::isnan(dirty.logsumexp.get(b, h, i, 0))
                           : dirty.logsumexp.bits(b, h, i, 0) == clean.logsumexp.bits(b, h, i, 0);
    if (!right) text = "logsumexp" + place_text(b, h, i, 0) + (touched ? " lost it" : " caught it");
  });
  return text;
}

constexpr int64_t kSizes[][2] = {{1, 300}, {8, 267}, {12, 6}, {50, 70}, {70, 131}};

}  // namespace

TEST_CASE("garbage where nobody looks gives the bits of zeros there") {
  int64_t turn = 0;
  for (const auto& size : kSizes) {
    for (int64_t index = 0; index < kMaskCount; index += 7) {
      ++turn;
      Random random(turn);
      AttentionInputs clean = inputs_for(index + turn, size[0], size[1], &random);
      AttentionInputs dirty = clean;
      for (int64_t b = 0; b < 2; ++b) {
        for (int64_t h = 0; h < clean.key.heads(); ++h) {
          for (int64_t j = 0; j < clean.masks.keys; ++j) {
            if (seen_by_any(clean, b, h, j)) continue;
            const double garbage[] = {kNaN, kInfinity, -kInfinity};
            for (int64_t d = 0; d < clean.key.columns(); ++d) {
              clean.key.set(b, h, j, d, 0);
              dirty.key.set(b, h, j, d, garbage[random.below(3)]);
            }
            for (int64_t d = 0; d < clean.value.columns(); ++d) {
              clean.value.set(b, h, j, d, 0);
              dirty.value.set(b, h, j, d, garbage[random.below(3)]);
            }
          }
        }
      }
      INFO(describe(clean));
      for_each_isa([&](const Kernels& kernels, const char*) {
        const AttentionResult expected = run_attention(kernels, clean);
        REQUIRE(bits_differ(run_attention(kernels, dirty), expected) == "");
      });
    }
  }
}

TEST_CASE("NaN and Inf at one key reach exactly the queries that see it") {
  int64_t turn = 0;
  for (const auto& size : kSizes) {
    for (int64_t index = 0; index < kMaskCount; index += 6) {
      ++turn;
      Random random(turn);
      const AttentionInputs clean = inputs_for(index + turn, size[0], size[1], &random);
      Spot spot{};
      spot.in_value = turn % 3 != 0;
      spot.b = random.below(2);
      spot.kv_head = random.below(2);
      spot.j = random.below(clean.masks.keys);
      spot.d = random.below(spot.in_value ? clean.value.columns() : clean.key.columns());
      AttentionInputs dirty = clean;
      Tensor& target = spot.in_value ? dirty.value : dirty.key;
      const bool infinite = spot.in_value && turn % 2;
      target.set(spot.b, spot.kv_head, spot.j, spot.d, infinite ? -kInfinity : kNaN);
      INFO(describe(clean) << ", garbage in " << describe(spot));
      for_each_isa([&](const Kernels& kernels, const char*) {
        const AttentionResult expected = run_attention(kernels, clean);
        const AttentionResult found = run_attention(kernels, dirty);
        REQUIRE(reach_differs(clean, spot, found, expected) == "");
      });
    }
  }
}

TEST_CASE("causal: NaN at key j reaches queries from j on, on every tile boundary") {
  for (int64_t j : {0, 1, 47, 48, 63, 64, 65, 95, 96, 127, 128, 129}) {
    for (int64_t turn = 0; turn < 4; ++turn) {
      const bool in_value = turn % 2;
      Random random(j);
      AttentionShape shape;
      shape.queries = 130;
      shape.keys = 130;
      shape.dtypes = turn < 2 ? DTypePair{DType::kFloat32, DType::kFloat32}
                              : DTypePair{DType::kBFloat16, DType::kBFloat16};
      AttentionInputs clean = make_inputs(shape, &random);
      clean.masks.causal = true;
      AttentionInputs dirty = clean;
      (in_value ? dirty.value : dirty.key).set(0, 0, j, 3, kNaN);
      INFO("key " << j << (in_value ? ", in value" : ", in key"));
      for_each_isa([&](const Kernels& kernels, const char*) {
        const AttentionResult expected = run_attention(kernels, clean);
        const AttentionResult found = run_attention(kernels, dirty);
        REQUIRE(reach_differs(clean, {in_value, 0, 0, j, 3}, found, expected) == "");
      });
    }
  }
}

TEST_CASE("NaN in one query stays in that query") {
  for (int64_t queries : {7, 60}) {
    Random random(queries);
    const AttentionInputs clean = inputs_for(1, queries, 70, &random);
    AttentionInputs dirty = clean;
    dirty.query.set(1, 2, 5, 0, kNaN);
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult expected = run_attention(kernels, clean);
      const AttentionResult found = run_attention(kernels, dirty);
      found.out.for_each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
        const bool sees = expected.logsumexp.get(b, h, i, 0) != -kInfinity;
        const bool touched = b == 1 && h == 2 && i == 5 && sees;
        const bool right = touched ? std::isnan(found.out.get(b, h, i, d))
                                   : found.out.bits(b, h, i, d) == expected.out.bits(b, h, i, d);
        if (!right) FAIL("wrong at " << place_text(b, h, i, d));
      });
    });
  }
}

TEST_CASE("a NaN in a float mask is seen") {
  for (int64_t queries : {5, 60}) {
    Random random(queries);
    AttentionInputs in = inputs_for(0, queries, 70, &random);
    in.masks = Masks{2, 4, queries, 70};
    in.masks.add_attn(DType::kFloat32, {false, false, true, true});
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t j = 0; j < 70; ++j) in.masks.attn[0].set(0, 0, i, j, 0);
    }
    in.masks.attn[0].set(0, 0, 3, 66, kNaN);
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult result = run_attention(kernels, in);
      result.out.for_each([&](auto b, auto h, auto i, auto d) {
        if (std::isnan(result.out.get(b, h, i, d)) != (i == 3)) FAIL("wrong at query " << i);
      });
    });
  }
}
