// Between torch's dispatcher, which hands over flat arguments, and operators, which are structs of
// them. Such a struct has a name, its own arguments, which `own()` ties together, and a struct of
// options, of which `Options` lists what the operator takes; both in the order of the schema.
#pragma once

#include <ATen/ATen.h>
#include <torch/library.h>

#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace masked_attn {

using OutAndLogsumexp = std::tuple<at::Tensor, at::Tensor>;

// Pointers to members of a struct of options.
template <auto... members>
struct Members {};

// What stands behind the dot of `masked_attn::name.overload`.
template <class Op>
inline constexpr const char* kOverload = "";

template <class T>
inline constexpr bool kHoldsTensor =
    std::is_same_v<T, at::Tensor> || std::is_same_v<T, std::optional<at::Tensor>>;

// How the dispatcher hands over what `T&` names: tensors by reference, all else by value.
template <class T>
using Flat = std::conditional_t<kHoldsTensor<std::remove_cvref_t<T>>, T, std::remove_cvref_t<T>>;

template <class Op, auto member>
using FlatOption = Flat<decltype((std::declval<const Op&>().options.*member))>;

// One line of the schema: an operator that returns its output, or the private one that also returns
// the log-sum-exp.
template <class Op, class Result, class Own = decltype(std::declval<const Op&>().own()),
          class Options = typename Op::Options>
struct Entry;

template <class Op_, class Result_, class... Own, auto... members>
struct Entry<Op_, Result_, std::tuple<Own...>, Members<members...>> {
  using Op = Op_;
  using Result = Result_;
  using Function = Result(Flat<Own>..., FlatOption<Op, members>...);

  static std::string name() {
    const bool is_plain = std::is_same_v<Result, at::Tensor>;
    return is_plain ? Op::kName : c10::str("_", Op::kName, "_forward");
  }

  // As it is registered.
  static std::string full_name() {
    const std::string overload = kOverload<Op>;
    return overload.empty() ? name() : c10::str(name(), ".", overload);
  }

  static const c10::TypedOperatorHandle<Function>& handle() {
    static const auto typed =
        c10::Dispatcher::singleton()
            .findSchemaOrThrow(c10::str("masked_attn::", name()).c_str(), kOverload<Op>)
            .template typed<Function>();
    return typed;
  }

  // Through the dispatcher.
  static Result call(const Op& op) {
    const auto with_options = [&](auto&... own) -> Result {
      return handle().call(own..., (op.options.*members)...);
    };
    return std::apply(with_options, op.own());
  }

  // `kernel` as the dispatcher calls it.
  template <Result (*kernel)(const Op&)>
  static Result flat(Flat<Own>... own, FlatOption<Op, members>... taken) {
    std::remove_cvref_t<decltype(Op::options)> options;
    ((options.*members = std::move(taken)), ...);
    return kernel({std::forward<Flat<Own>>(own)..., options});
  }
};

// The first line of every kernel: an operator brings `checked_output`, which checks everything and
// returns an empty output, and `empty_logsumexp` if it can return that, too.
template <class Result, class Op>
Result checked_result(const Op& op) {
  at::Tensor out = checked_output(op);
  if constexpr (std::is_same_v<Result, at::Tensor>) {
    return out;
  } else {
    return {std::move(out), empty_logsumexp(op)};
  }
}

}  // namespace masked_attn
