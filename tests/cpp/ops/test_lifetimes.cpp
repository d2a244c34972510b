// What is handed on holds values, or takes only what outlives it: a temporary does not compile.
#include <type_traits>

#include "ops/checks.h"
#include "ops/params.h"
#include "support/catch.h"

using masked_attn::AttendOptions;
using masked_attn::checks::Argument;

template <class Tensor>
constexpr bool kNames = std::is_constructible_v<Argument, const char*, const char*, Tensor>;

static_assert(kNames<at::Tensor&> && kNames<const at::Tensor&>);
static_assert(!kNames<at::Tensor> && !kNames<const at::Tensor>);
// A struct with a reference inside can't be assigned.
static_assert(std::is_move_assignable_v<AttendOptions>);

TEST_CASE("OptionsOfAttentionKeepTheirMasks") {
  AttendOptions options{};
  {
    const std::optional<at::Tensor> mask = at::ones({2, 3}, at::kBool);
    options = {mask, mask->logical_not(), true, std::nullopt, std::nullopt};
  }
  CHECK(options.key_mask->all().item<bool>());
  CHECK(!options.attn_mask->any().item<bool>());
}
