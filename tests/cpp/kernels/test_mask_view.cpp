// MaskView and its word functions against the naive rule, exhaustively at small sizes.
#include <algorithm>
#include <vector>

#include "kernels/mask.h"
#include "support/catch.h"
#include "support/naive.h"

using namespace masked_attn_test;
using masked_attn::MaskView;

namespace {

constexpr int64_t kMax = 9;

// Every [queries, keys, causal, window] up to kMax, windows beyond both sizes included.
template <class Body>
void for_each_position_mask(const Body& body) {
  for (int64_t queries = 1; queries <= kMax; ++queries) {
    for (int64_t keys = 1; keys <= kMax; ++keys) {
      for (int64_t window = 0; window <= queries + keys + 1; ++window) {
        for (bool causal : {false, true}) {
          Masks m;
          m.queries = queries;
          m.keys = keys;
          m.window = window;
          m.causal = causal;
          body(m);
        }
      }
    }
  }
}

// The bits of `count` keys from `key` on for which `seen(j)` holds.
template <class Seen>
uint64_t bits_of(int64_t key, int64_t count, const Seen& seen) {
  uint64_t bits = 0;
  for (int64_t j = 0; j < count; ++j) bits |= static_cast<uint64_t>(seen(key + j)) << j;
  return bits;
}

bool position_bits_agree(const Masks& m) {
  const MaskView view(m.params());
  for (int64_t i = 0; i < m.queries; ++i) {
    for (int64_t key = 0; key < m.keys; ++key) {
      for (int64_t count = 1; key + count <= m.keys; ++count) {
        const auto seen = [&](int64_t j) { return position_visible(m, i, j); };
        if (view.position_bits(i, key, count) != bits_of(key, count, seen)) return false;
      }
    }
  }
  return true;
}

bool position_ranges_agree(const Masks& m) {
  const MaskView view(m.params());
  for (int64_t i = 0; i < m.queries; ++i) {
    const Range range = view.position_range(i);
    for (int64_t j = 0; j < m.keys; ++j) {
      if ((j >= range.begin && j < range.end) != position_visible(m, i, j)) return false;
    }
  }
  return true;
}

bool seeing_queries_agree(const Masks& m, Range keys) {
  const Range range = MaskView(m.params()).seeing_queries(keys);
  for (int64_t i = 0; i < m.queries; ++i) {
    bool sees = false;
    for (int64_t j = keys.begin; j < keys.end; ++j) sees = sees || position_visible(m, i, j);
    if ((i >= range.begin && i < range.end) != sees) return false;
  }
  return range.begin >= 0 && range.end <= m.queries && range.begin <= range.end;
}

}  // namespace

TEST_CASE("low_bits sets the lowest bits") {
  for (int64_t count = 0; count <= 64; ++count) {
    const auto all = [](int64_t) { return true; };
    REQUIRE(masked_attn::low_bits(count) == bits_of(0, count, all));
  }
  REQUIRE(masked_attn::low_bits(-3) == 0);
}

TEST_CASE("nonzero_bytes knows every byte value in every place") {
  for (int place = 0; place < 8; ++place) {
    for (int other : {0, 1, 127, 128, 255}) {
      for (int value = 0; value < 256; ++value) {
        uint8_t bytes[8];
        std::fill(bytes, bytes + 8, static_cast<uint8_t>(other));
        bytes[place] = static_cast<uint8_t>(value);
        const auto seen = [&](int64_t j) { return bytes[j] != 0; };
        if (masked_attn::nonzero_bytes(bytes) != bits_of(0, 8, seen)) {
          FAIL("place " << place << ", value " << value << ", others " << other);
        }
      }
    }
  }
}

TEST_CASE("nonzero_bits takes any count and stride") {
  Random random(1);
  for (int64_t stride : {1, 2, 3, 17}) {
    for (int64_t count = 0; count <= 64; ++count) {
      std::vector<uint8_t> bytes(count * stride + 1);
      for (uint8_t& byte : bytes) byte = random.chance(0.5) ? 0 : random.below(256);
      const auto seen = [&](int64_t j) { return bytes[j * stride] != 0; };
      INFO("stride " << stride << ", count " << count);
      REQUIRE(masked_attn::nonzero_bits(bytes.data(), stride, count) == bits_of(0, count, seen));
    }
  }
}

TEST_CASE("nonzero_bits with stride 0 repeats one byte") {
  const uint8_t bytes[2] = {0, 7};
  REQUIRE(masked_attn::nonzero_bits(bytes, 0, 5) == 0);
  REQUIRE(masked_attn::nonzero_bits(bytes + 1, 0, 5) == 0b11111);
}

TEST_CASE("causality and every window at every small size") {
  for_each_position_mask([](const Masks& m) {
    INFO(describe(m));
    REQUIRE(position_bits_agree(m));
    REQUIRE(position_ranges_agree(m));
  });
}

TEST_CASE("a window as large as an int64 holds sees everything that causality leaves") {
  for (bool causal : {false, true}) {
    Masks m;
    m.queries = 3;
    m.keys = 7;
    m.causal = causal;
    const MaskView without(m.params());
    m.window = std::numeric_limits<int64_t>::max();
    const MaskView with(m.params());
    for (int64_t i = 0; i < 3; ++i) {
      REQUIRE(with.position_bits(i, 0, 7) == without.position_bits(i, 0, 7));
    }
  }
}

TEST_CASE("seeing_queries is exact for every range of keys") {
  for_each_position_mask([](const Masks& m) {
    INFO(describe(m));
    for (int64_t begin = 0; begin <= m.keys; ++begin) {
      for (int64_t end = begin; end <= m.keys; ++end) {
        INFO("keys " << begin << " to " << end);
        REQUIRE(seeing_queries_agree(m, {begin, end}));
      }
    }
  });
}

TEST_CASE("row_range and key_bits for every key mask of nine keys") {
  for (int64_t step : {1, 2}) {
    Masks m;
    m.batch = 512;
    m.keys = kMax;
    m.add_key_mask(step);
    for (int64_t b = 0; b < m.batch; ++b) {
      for (int64_t j = 0; j < kMax; ++j) m.key(b, j) = (b >> j & 1) * 255;
    }
    const MaskView view(m.params());
    for (int64_t b = 0; b < m.batch; ++b) {
      const Range range = view.row_range(b);
      INFO("mask " << b << ", step " << step);
      REQUIRE(view.key_bits(b, 0, kMax) == static_cast<uint64_t>(b));
      REQUIRE(view.key_bits(b, 2, 5) == static_cast<uint64_t>(b >> 2 & 31));
      REQUIRE((range.begin < range.end) == (b != 0));
      if (b == 0) continue;
      REQUIRE(range.begin == __builtin_ctzll(b));
      REQUIRE(range.end == 64 - __builtin_clzll(b));
    }
  }
}

TEST_CASE("without a key mask a row reaches from the first to the last key") {
  Masks m;
  m.keys = 70;
  const MaskView view(m.params());
  REQUIRE(view.row_range(0).begin == 0);
  REQUIRE(view.row_range(0).end == 70);
  REQUIRE(view.key_bits(0, 64, 6) == 63);
}

TEST_CASE("attn_bits and add_bias read every dtype and broadcast") {
  Random random(2);
  for (int form = 1; form < kAttnFormCount; ++form) {
    Masks m;
    m.batch = 2;
    m.heads = 3;
    m.queries = 4;
    m.keys = 67;
    set_attn_mask(&m, kAttnForms[form], &random);
    const MaskView view(m.params());
    INFO(kAttnForms[form].name);
    REQUIRE(view.has_bias() == (kAttnForms[form].dtype != DType::kBool));
    Tensor(DType::kBool, m.batch, m.heads, m.queries, 1)
        .for_each([&](auto b, auto h, auto i, auto) {
          const auto seen = [&](int64_t j) { return visible(m, b, h, i, j); };
          REQUIRE(view.attn_bits(b, h, i, 3, 64) == bits_of(3, 64, seen));
          if (!view.has_bias()) return;
          std::vector<double> scores(64, 1.0);
          view.add_bias(b, h, i, 3, 64, scores.data());
          for (int64_t j = 0; j < 64; ++j) REQUIRE(scores[j] == 1.0 + bias(m, b, h, i, 3 + j));
        });
  }
}

TEST_CASE("float masks hide exactly the values at or below half the lowest finite value") {
  for (DType dtype : {DType::kFloat32, DType::kFloat64, DType::kFloat16, DType::kBFloat16}) {
    Masks m;
    m.keys = 9;
    AttnMask& mask = m.add_attn(dtype, {false, false, false, true});
    const double half = 0.5 * lowest_finite(dtype);
    const double values[9] = {-kInfinity, 2 * half, 1.5 * half, half,     half * 0.99,
                              -30000,     0,        kNaN,       kInfinity};
    for (int64_t j = 0; j < 9; ++j) mask.set(0, 0, 0, j, values[j]);
    INFO(dtype_name(dtype));
    REQUIRE(MaskView(m.params()).attn_bits(0, 0, 0, 0, 9) == 0b111110000);
  }
}
