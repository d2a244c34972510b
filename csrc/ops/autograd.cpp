// Until an operator has a gradient it says so: a missing one must never be a silent None. An
// operator that writes an argument also moves its version counter.
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/autograd/variable.h>

#include "operators.h"

namespace masked_attn::autograd {
namespace {

constexpr char kNotYet[] =
    "no gradient yet: call it under torch.no_grad(), or detach the arguments";
constexpr char kNever[] =
    "not differentiable: call it under torch.no_grad(), or detach the arguments";

template <class Op>
constexpr const char* kAdvice = kNotYet;
template <>
constexpr const char* kAdvice<ExpandMask> = kNever;
template <class Position>
constexpr const char* kAdvice<CachedAttention<Position>> = kNever;
template <>
constexpr const char* kAdvice<Linear> = kNever;

bool wants_gradient(const at::Tensor& tensor) {
  if (!tensor.defined()) return false;
  // no_grad stops backward mode only: a tangent would be lost without a word.
  const bool backward = at::GradMode::is_enabled() && tensor.requires_grad();
  return backward || tensor._fw_grad(/*level=*/0).defined();
}

bool wants_gradient(const std::optional<at::Tensor>& tensor) {
  return tensor.has_value() && wants_gradient(*tensor);
}

template <class Other>
  requires(!kHoldsTensor<Other>)
constexpr bool wants_gradient(const Other&) {
  return false;
}

template <class Argument>
void bump_version(Argument& argument) {
  if constexpr (std::is_same_v<Argument, at::Tensor>) {
    if (!argument.is_inference()) torch::autograd::impl::bump_version(argument);
  }
}

template <class Entry, class Function = typename Entry::Function>
struct Kernels;

// `Args` are flat, so the arguments go on as they came. What is written is an `at::Tensor&`.
template <class Entry, class Result, class... Args>
struct Kernels<Entry, Result(Args...)> {
  static constexpr bool kWrites = (std::is_same_v<Args, at::Tensor&> || ...);
  using BelowAutograd = std::conditional_t<kWrites, at::AutoDispatchBelowAutograd,
                                           at::AutoDispatchBelowADInplaceOrView>;

  static Result refuse_gradient(Args... args) {
    using Op = typename Entry::Op;
    TORCH_CHECK(!(wants_gradient(args) || ...), Op::kName, ": ", kAdvice<Op>);
    const BelowAutograd guard;
    return Entry::handle().call(std::forward<Args>(args)...);
  }

  static Result write_in_place(Args... args) {
    Result result = below_views(args...);
    (bump_version(args), ...);
    return result;
  }

  static Result below_views(Args... args) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    return Entry::handle().call(std::forward<Args>(args)...);
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, Autograd, m) {
  for_each_operator([&]<class Entry>(Entry) {
    m.impl(Entry::full_name().c_str(), Kernels<Entry>::refuse_gradient);
  });
}

TORCH_LIBRARY_IMPL(masked_attn, ADInplaceOrView, m) {
  for_each_operator([&]<class Entry>(Entry) {
    if constexpr (Kernels<Entry>::kWrites) {
      m.impl(Entry::full_name().c_str(), Kernels<Entry>::write_in_place);
    }
  });
}

}  // namespace masked_attn::autograd
