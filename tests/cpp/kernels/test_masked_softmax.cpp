// masked_softmax against the naive loops, and the properties that need no tolerance.
#include "support/cases.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace masked_attn_test;

namespace {

constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat64, DType::kFloat16, DType::kBFloat16};

Tensor random_scores(const Masks& m, DType dtype, Layout layout, Random* random) {
  return Tensor(dtype, m.batch, m.heads, m.queries, m.keys, layout).randomize(random, -8, 8);
}

// Empty when the result is right; masked keys must be exactly 0.
std::string softmax_differs(const Tensor& out, const Tensor& scores, const Masks& m, double scale) {
  for (int64_t b = 0; b < m.batch; ++b) {
    for (int64_t h = 0; h < m.heads; ++h) {
      for (int64_t i = 0; i < m.queries; ++i) {
        const NaiveRow row = naive_softmax_row(scores, m, scale, b, h, i);
        for (int64_t j = 0; j < m.keys; ++j) {
          const double bound = visible(m, b, h, i, j)
                                   ? softmax_bound(out.dtype(), row.weights[j], row.score_size)
                                   : 0;
          if (within(out.get(b, h, i, j), row.weights[j], bound)) continue;
          return difference_text("", place_text(b, h, i, j), out.get(b, h, i, j), row.weights[j],
                                 bound);
        }
      }
    }
  }
  return "";
}

void check(const Masks& m, int64_t turn) {
  Random random(turn);
  const double scales[] = {1, 0.125, -1, 0};
  const double scale = scales[turn % 4];
  const Tensor scores = random_scores(m, kDTypes[turn % 4], kLayouts[turn % 3], &random);
  INFO(describe(m) << ", " << dtype_name(scores.dtype()) << ", scale " << scale);
  for_each_isa([&](const Kernels& kernels, const char*) {
    const RunOptions options{kAllWorkers[turn % kWorkersCount], kLayouts[turn / 3 % 3]};
    const Tensor out = run_softmax(kernels, scores, m, scale, options);
    REQUIRE(softmax_differs(out, scores, m, scale) == "");
  });
}

Masks sized(int64_t batch, int64_t heads, int64_t queries, int64_t keys) {
  Masks m;
  m.batch = batch;
  m.heads = heads;
  m.queries = queries;
  m.keys = keys;
  return m;
}

}  // namespace

TEST_CASE("softmax at sizes around tiles and vectors") {
  int64_t turn = 0;
  for (int64_t queries : kLengths) {
    for (int64_t keys : kLengths) {
      turn += 5;
      Random random(turn);
      Masks m = queries * keys > 20000 ? sized(1, 1, queries, keys) : sized(2, 2, queries, keys);
      set_masks(&m, turn % kMaskCount, &random);
      check(m, turn / 5);
    }
  }
}

TEST_CASE("softmax with every combination of masks") {
  for (int64_t index = 0; index < kMaskCount; ++index) {
    Random random(index);
    Masks m = sized(2, 2, 9 + index % 4 * 20, 65 + index % 5 * 19);
    set_masks(&m, index, &random);
    check(m, index);
  }
}

TEST_CASE("softmax of nothing writes nothing") {
  for_each_isa([&](const Kernels& kernels, const char*) {
    for (const Masks& m :
         {sized(0, 2, 3, 4), sized(2, 0, 3, 4), sized(2, 2, 0, 4), sized(2, 2, 3, 0)}) {
      run_softmax(kernels, Tensor(DType::kFloat32, m.batch, m.heads, m.queries, m.keys), m, 1);
    }
  });
}

TEST_CASE("softmax: masked scores have no influence, even NaN and Inf") {
  for (int64_t index = 0; index < kMaskCount; index += 5) {
    Random random(index);
    Masks m = sized(2, 2, 11, 140);
    set_masks(&m, index, &random);
    const Tensor clean = random_scores(m, kDTypes[index % 4], Layout::kHeadMajor, &random);
    Tensor dirty = clean;
    dirty.for_each([&](auto b, auto h, auto i, auto j) {
      const double garbage[] = {kNaN, kInfinity, -kInfinity};
      if (!visible(m, b, h, i, j)) dirty.set(b, h, i, j, garbage[random.below(3)]);
    });
    INFO(describe(m));
    for_each_isa([&](const Kernels& kernels, const char*) {
      const Tensor expected = run_softmax(kernels, clean, m, 1);
      REQUIRE(bits_differ(run_softmax(kernels, dirty, m, 1), expected) == "");
    });
  }
}

TEST_CASE("softmax: a visible NaN reaches the visible keys of its row and nothing else") {
  Random random(7);
  Masks m = sized(1, 2, 6, 150);
  set_key_mask(&m, KeyForm::kHoles, &random);
  m.key(0, 100) = 1;
  const Tensor clean = random_scores(m, DType::kFloat32, Layout::kHeadMajor, &random);
  Tensor dirty = clean;
  dirty.set(0, 1, 3, 100, kNaN);
  for_each_isa([&](const Kernels& kernels, const char*) {
    const Tensor expected = run_softmax(kernels, clean, m, 1);
    const Tensor out = run_softmax(kernels, dirty, m, 1);
    out.for_each([&](int64_t b, int64_t h, int64_t i, int64_t j) {
      const bool touched = h == 1 && i == 3 && visible(m, b, h, i, j);
      const bool right = touched ? std::isnan(out.get(b, h, i, j))
                                 : out.bits(b, h, i, j) == expected.bits(b, h, i, j);
      INFO(place_text(b, h, i, j) << " is " << out.get(b, h, i, j));
      if (!right) FAIL("a visible NaN is lost or reaches too far");
    });
  });
}

TEST_CASE("softmax: threads, layouts and what the workspace held change no bit") {
  for (int64_t index = 0; index < kMaskCount; index += 29) {
    Random random(index);
    Masks m = sized(2, 3, 33, 267);
    set_masks(&m, index, &random);
    const Tensor scores = random_scores(m, kDTypes[index % 4], Layout::kHeadMajor, &random);
    INFO(describe(m));
    for_each_isa([&](const Kernels& kernels, const char*) {
      const Tensor expected = run_softmax(kernels, scores, m, 1);
      for (Layout layout : kLayouts) {
        for (const Workers& workers : kAllWorkers) {
          const Tensor out =
              run_softmax(kernels, scores.copy(layout), m, 1, {workers, layout, 0x00});
          REQUIRE(bits_differ(out, expected) == "");
        }
      }
    });
  }
}

TEST_CASE("softmax: a padded row has the bits of the row alone") {
  constexpr int64_t kQueries = 5;
  constexpr int64_t kKeys = 300;
  for (int64_t length : {1, 2, 8, 9, 63, 64, 65, 127, 128, 129, 255, 256, 257, 299}) {
    for (int64_t begin : {int64_t{0}, (kKeys - length) / 2, kKeys - length}) {
      Random random(length * 1000 + begin);
      Masks m = sized(2, 2, kQueries, kKeys);
      m.add_key_mask();
      for (int64_t j = 0; j < kKeys; ++j) m.key(1, j) = j >= begin && j < begin + length;
      Tensor padded = random_scores(m, kDTypes[length % 4], Layout::kGaps, &random);
      Tensor alone(padded.dtype(), 1, 2, kQueries, length);
      alone.for_each([&](auto, auto h, auto i, auto j) {
        alone.set(0, h, i, j, padded.get(1, h, i, begin + j));
      });
      INFO("length " << length << ", begin " << begin);
      for_each_isa([&](const Kernels& kernels, const char*) {
        const Tensor in_batch = run_softmax(kernels, padded, m, 0.5);
        const Tensor by_itself = run_softmax(kernels, alone, sized(1, 2, kQueries, length), 0.5);
        by_itself.for_each([&](auto, auto h, auto i, auto j) {
          if (by_itself.bits(0, h, i, j) == in_batch.bits(1, h, i, begin + j)) return;
          FAIL("differs at " << place_text(1, h, i, begin + j));
        });
      });
    }
  }
}

TEST_CASE("softmax: no weight is denormal") {
  // One score of 0 makes the sum exactly 1, so each output is the weight itself.
  for (DType dtype : {DType::kFloat32, DType::kFloat64}) {
    const double limit = std::log(smallest_normal(dtype));
    Tensor scores(dtype, 1, 1, 1, 1000);
    for (int64_t j = 0; j < 1000; ++j) scores.set(0, 0, 0, j, limit + (j - 500) * 0.01);
    scores.set(0, 0, 0, 17, 0);
    for_each_isa([&](const Kernels& kernels, const char*) {
      const Tensor out = run_softmax(kernels, scores, sized(1, 1, 1, 1000), 1);
      int64_t zeros = 0;
      for (int64_t j = 0; j < 1000; ++j) {
        const double weight = out.get(0, 0, 0, j);
        zeros += weight == 0;
        if (weight != 0 && weight < smallest_normal(dtype)) FAIL("denormal weight " << weight);
      }
      REQUIRE(zeros > 490);
      REQUIRE(zeros < 510);
    });
  }
}

TEST_CASE("softmax: a bias of -1e9 hides nothing by itself") {
  Masks m = sized(1, 1, 2, 70);
  AttnMask& mask = m.add_attn(DType::kFloat32, {false, false, true, true});
  Tensor scores(DType::kFloat32, 1, 1, 2, 70);
  for (int64_t j = 0; j < 70; ++j) {
    for (int64_t i = 0; i < 2; ++i) scores.set(0, 0, i, j, 0);
    mask.set(0, 0, 0, j, j == 33 ? 0 : -1e9);
    mask.set(0, 0, 1, j, -1e9);
  }
  for_each_isa([&](const Kernels& kernels, const char*) {
    const Tensor out = run_softmax(kernels, scores, m, 1);
    for (int64_t j = 0; j < 70; ++j) {
      REQUIRE(out.get(0, 0, 0, j) == (j == 33 ? 1 : 0));
      REQUIRE(within(out.get(0, 0, 1, j), 1.0 / 70, 1e-8));
    }
  });
}
