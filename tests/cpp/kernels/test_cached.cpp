// append_cache, and what a decode step does with it: write the new slots, then attend causally over
// a strided view of the cache.
#include "support/cases.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace masked_attn_test;

namespace {

constexpr int64_t kCapacity = 40;

// Old slots keep their bits, new ones hold the rounded source.
std::string append_differs(const Tensor& before, const Tensor& source, int64_t position,
                           const Tensor& after) {
  Tensor expected = before;
  source.for_each([&](auto b, auto h, auto i, auto d) {
    expected.set(b, h, position + i, d, source.get(b, h, i, d));
  });
  return bits_differ(after, expected);
}

}  // namespace

TEST_CASE("append writes its slots and nothing else") {
  int64_t turn = 0;
  for (const DTypePair& dtypes : kDTypePairs) {
    for (int64_t columns : {1, 7, 8, 16, 33, 64, 80}) {
      for (int64_t rows : {1, 3, 40}) {
        for (int64_t position : {int64_t{0}, (kCapacity - rows) / 2, kCapacity - rows}) {
          ++turn;
          Random random(turn);
          const Tensor source = Tensor(dtypes.query, 2, 3, rows, columns, kLayouts[turn % 3])
                                    .randomize(&random, -100, 100);
          const Tensor before = Tensor(dtypes.cache, 2, 3, kCapacity, columns,
                                       turn % 2 ? Layout::kGaps : Layout::kHeadMajor)
                                    .randomize(&random);
          INFO(dtype_name(dtypes.query) << " into " << dtype_name(dtypes.cache) << ", columns "
                                        << columns << ", rows " << rows << " at " << position);
          for_each_isa([&](const Kernels& kernels, const char*) {
            Tensor cache = before;
            run_append(kernels, source, position, &cache, kAllWorkers[turn % kWorkersCount]);
            REQUIRE(append_differs(before, source, position, cache) == "");
          });
        }
      }
    }
  }
}

TEST_CASE("append of a long prompt is shared by threads") {
  Random random(1);
  const Tensor source = Tensor(DType::kFloat32, 4, 8, 40, 64, Layout::kFused).randomize(&random);
  for (DType dtype : {DType::kFloat32, DType::kFloat16}) {
    for (const Workers& workers : kAllWorkers) {
      for_each_isa([&](const Kernels& kernels, const char*) {
        const Tensor before = Tensor(dtype, 4, 8, kCapacity, 64).randomize(&random);
        Tensor cache = before;
        run_append(kernels, source, 0, &cache, workers);
        REQUIRE(append_differs(before, source, 0, cache) == "");
      });
    }
  }
}

TEST_CASE("append keeps every bit of a value of the same dtype") {
  for (DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    Tensor source(dtype, 1, 1, 256, 256);
    for (int64_t n = 0; n < 65536; ++n) {
      const uint16_t pattern = static_cast<uint16_t>(n);
      std::memcpy(static_cast<uint16_t*>(source.view().data) + n, &pattern, sizeof(pattern));
    }
    for_each_isa([&](const Kernels& kernels, const char*) {
      Tensor cache(dtype, 1, 1, 256, 256);
      run_append(kernels, source, 0, &cache);
      REQUIRE(bits_differ(cache, source) == "");
    });
  }
}

TEST_CASE("append of nothing writes nothing") {
  for_each_isa([&](const Kernels& kernels, const char*) {
    const Tensor before(DType::kFloat32, 2, 2, 4, 8);
    Tensor cache = before;
    run_append(kernels, Tensor(DType::kFloat32, 2, 2, 0, 8), 4, &cache);
    REQUIRE(bits_differ(cache, before) == "");
  });
}

TEST_CASE("decode steps agree with one pass over all tokens") {
  // Slots that are not written yet hold NaN: no step may read them.
  constexpr int64_t kSteps[] = {17, 1, 1, 5, 8, 3, 1};
  for (const DTypePair& dtypes : kDTypePairs) {
    Random random(3);
    AttentionShape shape;
    shape.batch = 3;
    shape.heads = 4;
    shape.kv_heads = 2;
    shape.queries = 36;
    shape.keys = 36;
    shape.dtypes = {dtypes.query, dtypes.query};
    AttentionInputs all = make_inputs(shape, &random);
    all.masks.causal = true;
    set_key_mask(&all.masks, KeyForm::kLeft, &random);
    INFO(dtype_name(dtypes.query) << " with caches of " << dtype_name(dtypes.cache));
    for_each_isa([&](const Kernels& kernels, const char*) {
      AttentionInputs whole = all;
      whole.key = Tensor(dtypes.cache, 3, 2, kCapacity, 16, Layout::kGaps);
      whole.value = Tensor(dtypes.cache, 3, 2, kCapacity, 16);
      int64_t position = 0;
      for (int64_t queries : kSteps) {
        AttentionInputs step = whole;
        step.query = Tensor(dtypes.query, 3, 4, queries, 16);
        step.query.for_each([&](auto b, auto h, auto i, auto d) {
          step.query.set(b, h, i, d, all.query.get(b, h, position + i, d));
        });
        for (const auto& [source, cache] :
             {std::pair{&all.key, &whole.key}, std::pair{&all.value, &whole.value}}) {
          Tensor fresh(dtypes.query, 3, 2, queries, 16, Layout::kFused);
          fresh.for_each([&](auto b, auto h, auto i, auto d) {
            fresh.set(b, h, i, d, source->get(b, h, position + i, d));
          });
          run_append(kernels, fresh, position, cache);
        }
        step.key = whole.key;
        step.value = whole.value;
        position += queries;
        step.masks = Masks{3, 4, queries, position, true};
        step.masks.add_key_mask();
        for (int64_t b = 0; b < 3; ++b) {
          for (int64_t j = 0; j < position; ++j) step.masks.key(b, j) = all.masks.key(b, j);
        }
        const AttentionTruth truth(step);
        REQUIRE(truth.differs(run_attention(kernels, step)) == "");
      }
      REQUIRE(position == 36);
    });
  }
}
