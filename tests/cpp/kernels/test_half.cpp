// float16 and bfloat16: conversions of half.h against plain arithmetic, then the vector loads and
// stores of each instruction set against half.h.
#include <cmath>
#include <vector>

#include "kernels/half.h"
#include "support/catch.h"
#include "support/run.h"

using namespace masked_attn_test;
using masked_attn::bits_from_float;
using masked_attn::float_from_bits;

namespace {

// A 16-bit format: `mantissa` bits of fraction, exponent bias `bias`.
struct Format {
  DType dtype;
  int mantissa;
  int bias;
};
constexpr Format kFormats[] = {{DType::kFloat16, 10, 15}, {DType::kBFloat16, 7, 127}};

// The value of a bit pattern, by the definition of the format.
double value_of(const Format& f, uint32_t bits) {
  const int exponent_bits = 15 - f.mantissa;
  const int exponent = bits >> f.mantissa & ((1 << exponent_bits) - 1);
  const double fraction = bits & ((1u << f.mantissa) - 1);
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return fraction ? kNaN : sign * kInfinity;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - f.bias - f.mantissa);
  return sign * std::ldexp(std::ldexp(1.0, f.mantissa) + fraction, exponent - f.bias - f.mantissa);
}

uint32_t narrow(DType dtype, float x) {
  if (dtype == DType::kFloat16) {
    Half out;
    masked_attn::from_float(x, &out);
    return out.bits;
  }
  BFloat16 out;
  masked_attn::from_float(x, &out);
  return out.bits;
}

float widen(DType dtype, uint32_t bits) {
  const uint16_t word = static_cast<uint16_t>(bits);
  return dtype == DType::kFloat16 ? masked_attn::to_float(Half{word})
                                  : masked_attn::to_float(BFloat16{word});
}

bool is_nan_pattern(const Format& f, uint32_t bits) { return std::isnan(value_of(f, bits)); }

// To nearest, ties to even, by searching among the patterns themselves.
uint32_t nearest(const Format& f, float x) {
  const uint32_t sign = std::signbit(x) ? 0x8000u : 0;
  const double magnitude = std::fabs(static_cast<double>(x));
  const uint32_t infinity = f.dtype == DType::kFloat16 ? 0x7c00u : 0x7f80u;
  uint32_t low = 0, high = infinity;  // value_of(low) <= magnitude
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    (value_of(f, middle) <= magnitude ? low : high) = middle;
  }
  // Infinity counts as the next value after the largest, as IEEE 754 rounds.
  const double step = value_of(f, infinity - 1) - value_of(f, infinity - 2);
  const double above = high == infinity ? value_of(f, infinity - 1) + step : value_of(f, high);
  const double below = value_of(f, low);
  if (std::isinf(magnitude) || magnitude - below > above - magnitude) return sign | high;
  if (magnitude - below == above - magnitude) return sign | (low % 2 ? high : low);
  return sign | low;
}

// Every value of the format, the midpoints between neighbours, and the floats beside both.
std::vector<float> boundary_floats(const Format& f) {
  std::vector<float> out;
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    if (is_nan_pattern(f, bits)) continue;
    const float value = static_cast<float>(value_of(f, bits));
    const double next = value_of(f, bits + 1);
    float middle = static_cast<float>(value / 2.0 + next / 2.0);
    if (!std::isfinite(middle)) middle = value;
    for (float x : {value, middle}) {
      out.push_back(x);
      out.push_back(std::nextafterf(x, INFINITY));
      out.push_back(std::nextafterf(x, -INFINITY));
    }
  }
  return out;
}

std::vector<float> random_floats(int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> out;
  while (static_cast<int64_t>(out.size()) < count) {
    const float x = float_from_bits(static_cast<uint32_t>(random.bits()));
    if (!std::isnan(x)) out.push_back(x);
  }
  return out;
}

// What narrowing must get right: values, ties, neighbours, and the edges of the format.
std::vector<float> test_floats(const Format& f) {
  std::vector<float> out = boundary_floats(f);
  for (float x : random_floats(200000, 3)) out.push_back(x);
  for (float x : {65504.0f, 65519.996f, 65520.0f, 65536.0f, 3.4e38f, 3.3961775e38f, 0x1p-24f,
                  0x1p-25f, 0x1.000002p-25f, 0x1p-26f, 0x1p-133f, 0x1p-134f, 0x1p-149f}) {
    out.push_back(x);
    out.push_back(-x);
  }
  return out;
}

}  // namespace

TEST_CASE("all 65536 patterns widen to their value") {
  for (const Format& f : kFormats) {
    for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
      const double expected = value_of(f, bits);
      const float found = widen(f.dtype, bits);
      const bool same = std::isnan(expected)
                            ? std::isnan(found)
                            : found == expected && std::signbit(found) == std::signbit(expected);
      if (!same) FAIL(dtype_name(f.dtype) << " pattern " << bits << " widens to " << found);
    }
  }
}

TEST_CASE("all 65536 patterns come back from float") {
  for (const Format& f : kFormats) {
    for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
      const uint32_t found = narrow(f.dtype, widen(f.dtype, bits));
      const bool same = is_nan_pattern(f, bits) ? is_nan_pattern(f, found) : found == bits;
      if (!same) FAIL(dtype_name(f.dtype) << " pattern " << bits << " comes back as " << found);
    }
  }
}

TEST_CASE("float narrows to the nearest value, ties to even") {
  for (const Format& f : kFormats) {
    for (float x : test_floats(f)) {
      if (narrow(f.dtype, x) == nearest(f, x)) continue;
      FAIL(dtype_name(f.dtype) << ": " << x << " narrows to " << narrow(f.dtype, x) << ", expected "
                               << nearest(f, x));
    }
  }
}

TEST_CASE("every kind of NaN narrows to NaN of the same sign") {
  for (const Format& f : kFormats) {
    for (uint32_t bits : {0x7fc00000u, 0x7f800001u, 0x7fffffffu, 0x7f80ffffu, 0xffc00000u,
                          0xff800001u, 0xffffffffu}) {
      const uint32_t found = narrow(f.dtype, float_from_bits(bits));
      INFO(dtype_name(f.dtype) << " from " << bits << " to " << found);
      REQUIRE(is_nan_pattern(f, found));
      REQUIRE(found >> 15 == bits >> 31);
    }
  }
}

TEST_CASE("vector stores agree with half.h") {
  // 77 columns: whole vectors of every length, and a tail.
  constexpr int64_t kColumns = 77;
  for (const Format& f : kFormats) {
    std::vector<float> values = test_floats(f);
    values.push_back(NAN);
    const int64_t rows = (values.size() + kColumns - 1) / kColumns;
    values.resize(rows * kColumns, 1.0f);
    Tensor source(DType::kFloat32, 1, 1, rows, kColumns);
    std::memcpy(source.view().data, values.data(), values.size() * sizeof(float));
    for_each_isa([&](const Kernels& kernels, const char*) {
      Tensor cache(f.dtype, 1, 1, rows, kColumns, Layout::kGaps);
      run_append(kernels, source, 0, &cache);
      for (int64_t n = 0; n < rows * kColumns; ++n) {
        const uint64_t found = cache.bits(0, 0, n / kColumns, n % kColumns);
        const bool same = std::isnan(values[n]) ? is_nan_pattern(f, static_cast<uint32_t>(found))
                                                : found == narrow(f.dtype, values[n]);
        if (!same) FAIL(dtype_name(f.dtype) << ": " << values[n] << " is stored as " << found);
      }
    });
  }
}

TEST_CASE("vector loads agree with half.h") {
  // One visible key has weight 1, so the output is the value itself. 257 columns leave a tail.
  constexpr int64_t kColumns = 257;
  for (const Format& f : kFormats) {
    AttentionInputs in;
    in.query = Tensor(DType::kFloat32, 256, 1, 1, 1);
    in.key = Tensor(f.dtype, 256, 1, 1, 1);
    in.value = Tensor(f.dtype, 256, 1, 1, kColumns);
    in.masks.batch = 256;
    in.query.for_each([&](auto... at) { in.query.set(at..., 1); });
    in.key.for_each([&](auto... at) { in.key.set(at..., 1); });
    std::vector<uint16_t> patterns(256 * kColumns);
    for (size_t n = 0; n < patterns.size(); ++n) patterns[n] = static_cast<uint16_t>(n);
    std::memcpy(in.value.view().data, patterns.data(), patterns.size() * sizeof(uint16_t));
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult result = run_attention(kernels, in);
      for (size_t n = 0; n < patterns.size(); ++n) {
        const double found = result.out.get(n / kColumns, 0, 0, n % kColumns);
        const double expected = widen(f.dtype, patterns[n]);
        if (found == expected || (std::isnan(found) && std::isnan(expected))) continue;
        FAIL(dtype_name(f.dtype) << " pattern " << patterns[n] << " is loaded as " << found);
      }
    });
  }
}
