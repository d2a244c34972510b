// The activations of linear: against double, at the edges of their range, and at every place of a
// vector. With 0 inputs linear is the activation of its bias.
#include "support/linear.h"

using namespace masked_attn_test;

namespace {

// Dense where the functions bend, up to where the result leaves the normal numbers, and beyond.
std::vector<double> arguments(DType dtype) {
  std::vector<double> values;
  for (int i = -4000; i <= 4000; ++i) values.push_back(i * (1.0 / 256) + 1e-4);
  for (double x = 1e-30; x < 1e30; x *= 1.7) {
    values.push_back(x);
    values.push_back(-x);
  }
  const double far = dtype == DType::kFloat64 ? 745 : 104;
  for (double x = 15.7; x < far; x += 0.37) {
    values.push_back(x);
    values.push_back(-x);
  }
  // As they are stored, so that the truth is that of the same argument.
  if (dtype != DType::kFloat64) {
    for (double& x : values) x = static_cast<float>(x);
  }
  return values;
}

// A function falls off as e^-u: u is rounded, and its error is the relative error of the result.
// Where e^-u is smaller than the smallest normal number, it is cleared.
double exponent(Activation activation, double x) {
  if (x > 0) return 0;
  switch (activation) {
    case Activation::kGeluTanh:
      return std::min(1.6 * (std::fabs(x) + 0.044715 * std::fabs(x * x * x)), 745.0);
    case Activation::kGelu:
      return std::min(x * x / 2, 745.0);
    case Activation::kSilu:
      return std::min(std::fabs(x), 745.0);
    default:
      return 0;
  }
}

template <class T>
void check_accuracy(DType dtype) {
  const std::vector<double> x = arguments(dtype);
  for (Activation activation : kActivations) {
    for_each_isa([&](const Kernels& kernels, const char*) {
      const auto found = activate_alone(kernels, activation, std::vector<T>(x.begin(), x.end()));
      for (size_t i = 0; i < x.size(); ++i) {
        const double truth = activated(activation, x[i]);
        const double bound =
            (6 + 3 * exponent(activation, x[i])) * epsilon(dtype) * std::fabs(truth) +
            4 * smallest_normal(dtype) * std::max(1.0, std::fabs(x[i]));
        INFO(activation_name(activation) << " of " << x[i]);
        if (!within(found[i], truth, bound)) {
          FAIL(difference_text("", "", found[i], truth, bound));
        }
      }
    });
  }
}

}  // namespace

TEST_CASE("linear: activations in float") { check_accuracy<float>(DType::kFloat32); }

TEST_CASE("linear: activations in double") { check_accuracy<double>(DType::kFloat64); }

TEST_CASE("linear: activations of what is no number, and of what overflows") {
  for (Activation activation : kActivations) {
    if (activation == Activation::kNone) continue;
    INFO(activation_name(activation));
    for_each_isa([&](const Kernels& kernels, const char*) {
      const auto check = [&](auto large) {
        using T = decltype(large);
        const std::vector<T> x = {T(kNaN), T(kInfinity), -T(kInfinity), large, -large, T(0), -T(0)};
        const std::vector<T> y = activate_alone(kernels, activation, x);
        REQUIRE(std::isnan(y[0]));
        REQUIRE(y[1] == T(kInfinity));
        // x * 0 for all but relu, as in torch.
        if (activation == Activation::kRelu) {
          REQUIRE(y[2] == 0);
        } else {
          REQUIRE(std::isnan(y[2]));
        }
        REQUIRE(y[3] == large);
        REQUIRE(y[4] == 0);
        REQUIRE(y[5] == 0);
        REQUIRE(y[6] == 0);
      };
      check(std::numeric_limits<float>::max());
      check(std::numeric_limits<double>::max());
    });
  }
}

TEST_CASE("linear: an activation has the same bits at every place of a vector") {
  Random random(5);
  std::vector<float> x(67);
  for (float& value : x) value = static_cast<float>(random.uniform(-6, 6));
  for (Activation activation : kActivations) {
    INFO(activation_name(activation));
    for_each_isa([&](const Kernels& kernels, const char*) {
      const std::vector<float> expected = activate_alone(kernels, activation, x);
      for (size_t i = 0; i < x.size(); ++i) {
        REQUIRE(activate_alone<float>(kernels, activation, {x[i]})[0] == expected[i]);
      }
      for (size_t begin = 1; begin < 20; ++begin) {
        const std::vector<float> part(x.begin() + begin, x.end() - 1);
        const std::vector<float> found = activate_alone(kernels, activation, part);
        for (size_t i = 0; i < part.size(); ++i) REQUIRE(found[i] == expected[begin + i]);
      }
    });
  }
}
