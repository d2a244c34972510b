// What is handed on holds values, or takes only what outlives it: a temporary does not compile.
#include <type_traits>

#include "ops/attention_options.h"
#include "ops/checks.h"
#include "support/catch.h"

using masked_attn::AttentionOptions;
using masked_attn::checks::Argument;

template <class Tensor>
constexpr bool kNames = std::is_constructible_v<Argument, const char*, const char*, Tensor>;

static_assert(kNames<at::Tensor&> && kNames<const at::Tensor&>);
static_assert(!kNames<at::Tensor> && !kNames<const at::Tensor>);
// A struct with a reference inside can't be assigned.
static_assert(std::is_move_assignable_v<AttentionOptions>);

TEST_CASE("OptionsOfAttentionKeepTheirMasks") {
  AttentionOptions options{};
  {
    const std::optional<at::Tensor> mask = at::ones({2, 3}, at::kBool);
    options = {.key_mask = mask, .attn_mask = mask->logical_not(), .causal = true};
  }
  CHECK(options.key_mask->all().item<bool>());
  CHECK(!options.attn_mask->any().item<bool>());
}
