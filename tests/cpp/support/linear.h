// Cases of `linear`, and two oracles of it in plain loops: its value in double, and the bits that
// its definition asks for. They share no code with the kernels.
#pragma once

#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "support/compare.h"

namespace masked_attn_test {

using masked_attn::Activation;

constexpr Activation kActivations[] = {Activation::kNone, Activation::kGeluTanh, Activation::kGelu,
                                       Activation::kSilu, Activation::kRelu};
constexpr int64_t kActivationCount = sizeof(kActivations) / sizeof(kActivations[0]);

inline const char* activation_name(Activation activation) {
  constexpr const char* kNames[] = {"none", "gelu_tanh", "gelu", "silu", "relu"};
  return kNames[static_cast<int>(activation)];
}

// Of the input and of the weight.
constexpr DType kLinearDTypes[][2] = {
    {DType::kFloat32, DType::kFloat32},  {DType::kBFloat16, DType::kBFloat16},
    {DType::kFloat32, DType::kBFloat16}, {DType::kFloat16, DType::kFloat16},
    {DType::kFloat32, DType::kFloat16},  {DType::kFloat64, DType::kFloat64},
};
constexpr int64_t kLinearDTypeCount = sizeof(kLinearDTypes) / sizeof(kLinearDTypes[0]);

struct LinearCase {
  Tensor input;   // [1, 1, rows, inputs]
  Tensor weight;  // [1, 1, outputs, inputs], or [1, 1, inputs, outputs]
  std::optional<Tensor> bias;
  std::optional<Tensor> multiplier;  // [1, 1, rows, outputs]
  Activation activation = Activation::kNone;
  bool transposed = false;

  double weight_at(int64_t n, int64_t k) const {
    return transposed ? weight.get(0, 0, k, n) : weight.get(0, 0, n, k);
  }
  int64_t outputs() const { return transposed ? weight.columns() : weight.rows(); }
  std::string name() const {
    return std::to_string(input.rows()) + " rows, " + std::to_string(input.columns()) +
           " inputs, " + std::to_string(outputs()) + " outputs, " +
           (transposed ? "[K, N], " : "[N, K], ") + dtype_name(input.dtype()) + ", " +
           dtype_name(weight.dtype()) + ", " + activation_name(activation) +
           (bias ? ", bias" : "") + (multiplier ? ", multiplier" : "");
  }
  LinearCase with_rows(Range rows) const {
    LinearCase part = *this;
    part.input = input.slice(0, rows, Layout::kGaps);
    if (multiplier) part.multiplier = multiplier->slice(0, rows, Layout::kGaps);
    return part;
  }
};

// `turn` decides dtypes, layouts, bias, activation and multiplier, at periods that do not meet.
inline LinearCase linear_case(int64_t rows, int64_t inputs, int64_t outputs, bool transposed,
                              int64_t turn) {
  Random random(turn);
  const DType* dtypes = kLinearDTypes[turn % kLinearDTypeCount];
  const auto gaps = [](bool yes) { return yes ? Layout::kGaps : Layout::kHeadMajor; };
  const int64_t round = turn / kLinearDTypeCount;
  LinearCase c;
  c.transposed = transposed;
  c.activation = kActivations[turn % kActivationCount];
  c.input = Tensor(dtypes[0], 1, 1, rows, inputs, gaps(round % 2)).randomize(&random);
  c.weight = Tensor(dtypes[1], 1, 1, transposed ? inputs : outputs, transposed ? outputs : inputs,
                    gaps(round % 3))
                 .randomize(&random);
  if (turn % 7 != 0) c.bias = Tensor(dtypes[1], 1, 1, 1, outputs).randomize(&random);
  if (turn % 4 == 3) {
    c.multiplier = Tensor(dtypes[0], 1, 1, rows, outputs, gaps(round % 2 == 0)).randomize(&random);
  }
  return c;
}

inline masked_attn::LinearParams linear_params(const LinearCase& c, const Tensor& out) {
  masked_attn::LinearParams p{};
  p.rows = c.input.rows();
  p.inputs = c.input.columns();
  p.outputs = c.outputs();
  p.out = out.view();
  p.input = c.input.view();
  p.weight = c.weight.view();
  if (c.bias) p.bias = c.bias->view();
  if (c.multiplier) p.multiplier = c.multiplier->view();
  p.activation = c.activation;
  p.transposed = c.transposed;
  return p;
}

inline Tensor run_linear(const Kernels& kernels, const LinearCase& c,
                         const RunOptions& options = {}) {
  Tensor out(c.input.dtype(), 1, 1, c.input.rows(), c.outputs(), options.out_layout);
  const masked_attn::LinearParams p = linear_params(c, out);
  run_guarded(kernels.linear, p, masked_attn::cpu::linear_workspace(p), options, out);
  return out;
}

// The functions as they are defined, in a longer type. No slope is beyond 1.13.
inline double activated(Activation activation, long double x) {
  const long double u = std::sqrt(2 / std::acos(-1.0L)) * (x + 0.044715L * x * x * x);
  switch (activation) {
    case Activation::kGeluTanh:  // 0.5 * x * (1 + tanh(u)), which would cancel
      return static_cast<double>(x / (1 + std::exp(-2 * u)));
    case Activation::kGelu:
      return static_cast<double>(0.5L * x * std::erfc(-x / std::sqrt(2.0L)));
    case Activation::kSilu:
      return static_cast<double>(x / (1 + std::exp(-x)));
    case Activation::kRelu:
      return static_cast<double>(x > 0 ? x : 0);
    case Activation::kNone:
      break;
  }
  return static_cast<double>(x);
}

// Against double: errors of the sums grow with the size of their terms.
inline std::string differs_from_double(const Tensor& out, const LinearCase& c) {
  const double step = epsilon(compute_dtype(out.dtype()));
  for (int64_t m = 0; m < out.rows(); ++m) {
    for (int64_t n = 0; n < out.columns(); ++n) {
      const double bias = c.bias ? c.bias->get(0, 0, 0, n) : 0;
      double sum = bias, size = std::fabs(bias);
      for (int64_t k = 0; k < c.input.columns(); ++k) {
        const double product = c.input.get(0, 0, m, k) * c.weight_at(n, k);
        sum += product;
        size += std::fabs(product);
      }
      const double factor = c.multiplier ? c.multiplier->get(0, 0, m, n) : 1;
      const double truth = activated(c.activation, sum) * factor;
      const double bound =
          8 * step * (size + 1) * std::fabs(factor) + storage_bound(out.dtype(), truth);
      if (within(out.get(0, 0, m, n), truth, bound)) continue;
      return difference_text("", place_text(0, 0, m, n), out.get(0, 0, m, n), truth, bound);
    }
  }
  return "";
}

// The definition: panels of 256 inputs; within a panel one chain of multiply-adds from zero, in the
// order of the inputs; the totals of the panels in their order; then the bias. `T` is the type of
// computation. Where multiply-adds are not fused, the product is rounded first.
template <class T>
std::vector<T> defined_sums(const LinearCase& c, bool fused) {
  constexpr int64_t kPanelInputs = 256;
  const int64_t inputs = c.input.columns(), outputs = c.outputs();
  std::vector<T> x(inputs), sums;
  std::vector<T> weight(outputs * inputs);
  for (int64_t n = 0; n < outputs; ++n) {
    for (int64_t k = 0; k < inputs; ++k) weight[n * inputs + k] = T(c.weight_at(n, k));
  }
  for (int64_t m = 0; m < c.input.rows(); ++m) {
    for (int64_t k = 0; k < inputs; ++k) x[k] = T(c.input.get(0, 0, m, k));
    for (int64_t n = 0; n < outputs; ++n) {
      T total = 0;
      for (int64_t begin = 0; begin < inputs; begin += kPanelInputs) {
        T chain = 0;
        for (int64_t k = begin; k < std::min(begin + kPanelInputs, inputs); ++k) {
          const T w = weight[n * inputs + k];
          // A rounded product must not meet its addition in one expression, which may be fused.
          volatile T product = fused ? T{0} : x[k] * w;
          chain = fused ? std::fma(x[k], w, chain) : chain + product;
        }
        total = begin == 0 ? chain : total + chain;
      }
      sums.push_back(total + (c.bias ? T(c.bias->get(0, 0, 0, n)) : T{0}));
    }
  }
  return sums;
}

// One value through the activation of a kernel, without a sum: 0 inputs and a bias. What the
// activation itself is worth, test_activation.cpp tells.
template <class T>
std::vector<T> activate_alone(const Kernels& kernels, Activation activation,
                              const std::vector<T>& values) {
  if (activation == Activation::kNone) return values;
  const DType dtype = sizeof(T) == 8 ? DType::kFloat64 : DType::kFloat32;
  const int64_t count = static_cast<int64_t>(values.size());
  LinearCase c;
  c.activation = activation;
  c.transposed = true;
  c.input = Tensor(dtype, 1, 1, 1, 0);
  c.weight = Tensor(dtype, 1, 1, 0, count);
  c.bias = Tensor(dtype, 1, 1, 1, count);
  for (int64_t i = 0; i < count; ++i) c.bias->set(0, 0, 0, i, values[i]);
  const Tensor out = run_linear(kernels, c);
  std::vector<T> activated;
  for (int64_t i = 0; i < count; ++i) activated.push_back(T(out.get(0, 0, 0, i)));
  return activated;
}

template <class T>
Tensor defined_result_as(const Kernels& kernels, const LinearCase& c, bool fused) {
  std::vector<T> values = activate_alone(kernels, c.activation, defined_sums<T>(c, fused));
  Tensor out(c.input.dtype(), 1, 1, c.input.rows(), c.outputs());
  out.for_each([&](auto, auto, int64_t m, int64_t n) {
    const T value = values[m * c.outputs() + n];
    out.set(0, 0, m, n, c.multiplier ? value * T(c.multiplier->get(0, 0, m, n)) : value);
  });
  return out;
}

inline Tensor defined_result(const Kernels& kernels, const char* isa, const LinearCase& c) {
  const bool fused = std::strcmp(isa, "scalar") != 0;
  return c.input.dtype() == DType::kFloat64 ? defined_result_as<double>(kernels, c, fused)
                                            : defined_result_as<float>(kernels, c, fused);
}

// Whether a set multiplies these bfloat16 values in pairs or tiles, which are other definitions;
// test_linear_tiles.cpp has that of tiles.
inline bool has_its_own_definition(const char* isa, const LinearCase& c) {
  const bool own = std::strcmp(isa, "avx512_bf16") == 0 || std::strncmp(isa, "amx", 3) == 0;
  return own && c.input.dtype() == DType::kBFloat16;
}

}  // namespace masked_attn_test
