"""The deliberate bugs of ``mutate.py``, and the pytest files that should notice each of them.

C++ bugs also meet all C++ tests. Texts to change are short, so that they outlive work around them.
"""

from __future__ import annotations

from dataclasses import dataclass

KERNELS = "csrc/kernels"
PACKAGE = "python/masked_attn"
OPS = "tests/python/ops"
MODELS = "tests/python/hf"
FAMILIES = f"{MODELS}/families"

EXACT_TESTS = (f"{OPS}/test_exactness.py", f"{OPS}/test_masked_attention_masks.py")
ACCURACY_TESTS = (f"{OPS}/test_masked_attention.py", f"{OPS}/test_masked_softmax.py")
CACHE_TESTS = (f"{OPS}/test_cached_attention.py",)
LARGE_VALUE_TESTS = (f"{OPS}/test_bad_inputs_large_values.py",)
PATH_TESTS = (f"{OPS}/test_exactness_paths.py",)
LINEAR_TESTS = (f"{OPS}/test_linear.py", f"{OPS}/test_linear_exactness.py")
SIZE_TESTS = (f"{OPS}/test_bad_inputs_sizes.py",)
INTERFACE_TESTS = (f"{MODELS}/test_attention_interface.py",)
GENERATE_TESTS = (f"{MODELS}/test_generate.py",)
FORWARD_TESTS = (f"{MODELS}/test_forward.py", *GENERATE_TESTS)
PADDING_FREE_TESTS = (
    f"{MODELS}/test_padding_free.py",
    f"{MODELS}/test_padding_free_generate.py",
)

WHOLE_GENERATE_TESTS = (f"{MODELS}/test_whole_generate.py",)
LAYER_TESTS = (
    f"{MODELS}/test_layers_by_class.py",
    f"{MODELS}/test_exact_activations.py",
    f"{MODELS}/test_pooling.py",
)
SCORE_TESTS = (f"{FAMILIES}/test_softcap_and_sinks.py",)
OWN_WAYS = (f"{FAMILIES}/test_own_ways.py",)
POSITION_TESTS = (f"{MODELS}/test_positions.py",)
FLASH_CACHE_TESTS = ("tests/python/flash/test_kvcache.py",)

# The mask function's registration and the check that it is there.
REGISTRATION = """\
    AttentionMaskInterface.register(NAME, make_mask)
    if AttentionInterface()[NAME] is not attention_forward:
        raise RuntimeError("masked_attn: the attention function could not be registered")
    if AttentionMaskInterface()[NAME] is not make_mask:
        raise RuntimeError("masked_attn: the mask function could not be registered")
"""

WRITE_THEN_COUNT = """\
        value[:, :, position:end].copy_(new_value)
        self.advance(new_key.shape[2])
"""
COUNT_THEN_WRITE = """\
        self.advance(new_key.shape[2])
        value[:, :, position:end].copy_(new_value)
"""


@dataclass(frozen=True)
class Mutation:
    """One bug: `old` becomes `new` in `path`; `tests` are the pytest files that should notice."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]


VISIBILITY = (
    Mutation(
        "mask_dropped_on_the_last_tile",
        f"{KERNELS}/cpu/attention_tiled.h",
        "all_see == low_bits(used),",
        "used < kKeyTile || all_see == low_bits(used),",
        EXACT_TESTS,
    ),
    Mutation(
        "key_start_off_by_one",
        f"{KERNELS}/mask.h",
        "    while (range.end > range.begin && !key_visible(row, range.end - 1)) --range.end;\n",
        "    while (range.end > range.begin && !key_visible(row, range.end - 1)) --range.end;\n"
        "    if (range.begin + 1 < range.end) ++range.begin;\n",
        EXACT_TESTS,
    ),
    Mutation(
        "top_left_causal",
        f"{KERNELS}/mask.h",
        "shift_(keys.end - queries.end),",
        "shift_(keys.begin - queries.begin),",
        EXACT_TESTS,
    ),
    Mutation(
        "causal_sees_the_next_key",
        f"{KERNELS}/mask.h",
        "range.end = min_of(range.end, position + 1);",
        "range.end = min_of(range.end, position + 2);",
        EXACT_TESTS,
    ),
    Mutation(
        "half_of_the_lowest_number_is_seen",
        f"{KERNELS}/mask.h",
        "<= threshold_);",
        "< threshold_);",
        (f"{OPS}/test_bad_inputs_masks.py",),
    ),
    Mutation(
        "packed_sequence_ends_one_late",
        f"{KERNELS}/rows.h",
        "min_of(offsets[row + 1], end)",
        "min_of(offsets[row + 1] + 1, end)",
        (f"{OPS}/test_packed_attention.py",),
    ),
)

SUMS = (
    Mutation(
        "skipped_rescale_of_the_running_sum",
        f"{KERNELS}/cpu/online_softmax.h",
        "    sum *= factor;\n",
        "",
        ACCURACY_TESTS,
    ),
    Mutation(
        "masked_scores_count_as_zero",
        f"{KERNELS}/cpu/online_softmax.h",
        "hidden = Vec<T>::broadcast(negative_infinity(T{}));",
        "hidden = Vec<T>::broadcast(T{0});",
        EXACT_TESTS,
    ),
    Mutation(
        # Finite: where a tile shows nothing, its scores less their maximum are 0.
        "fully_masked_tile_counts_with_exp_0",
        f"{KERNELS}/cpu/online_softmax.h",
        "hidden = Vec<T>::broadcast(negative_infinity(T{}));",
        "hidden = Vec<T>::broadcast(T{-1e30f});",
        EXACT_TESTS,
    ),
    Mutation(
        "exponential_with_fewer_bits_of_ln2",
        f"{KERNELS}/cpu/vec.h",
        "broadcast(2.12194440e-4f)",
        "broadcast(2.11e-4f)",
        ACCURACY_TESTS,
    ),
    Mutation(
        "one_too_many_in_a_tail",
        f"{KERNELS}/cpu/vec.h",
        "for (; i < count; ++i) from_float(values[i] * factor, out + i);",
        "for (; i <= count; ++i) from_float(values[i] * factor, out + i);",
        (f"{OPS}/test_masked_attention.py",),
    ),
    Mutation(
        "last_input_of_a_weight_dropped",
        f"{KERNELS}/cpu/linear_pack.h",
        "for (int64_t step = steps.begin; step < steps.end; ++step) {",
        "for (int64_t step = steps.begin; step + 1 < steps.end; ++step) {",
        LINEAR_TESTS,
    ),
    Mutation(
        "linear_sum_without_its_first_panels",
        f"{KERNELS}/cpu/linear_panels.h",
        "panel.first = k < cpu::kInputPanel;",
        "panel.first = true;",
        LINEAR_TESTS,
    ),
    Mutation(
        # Right within the bound of accuracy, and the same for a row in every batch.
        "linear_panels_of_another_length",
        f"{KERNELS}/cpu/plan.h",
        "constexpr int64_t kInputPanel = 256;",
        "constexpr int64_t kInputPanel = 128;",
        LINEAR_TESTS,
    ),
    Mutation(
        "shorter_chains_for_few_rows",
        f"{KERNELS}/cpu/linear_stream.h",
        "    for (int64_t k = 0; k < p_.inputs; k += cpu::kInputPanel) {\n"
        "      add_panel(outputs, {k, min_of(k + cpu::kInputPanel, p_.inputs)}, stride);\n",
        "    for (int64_t k = 0; k < p_.inputs; k += cpu::kInputPanel / 2) {\n"
        "      add_panel(outputs, {k, min_of(k + cpu::kInputPanel / 2, p_.inputs)}, stride);\n",
        LINEAR_TESTS,
    ),
    Mutation(
        "many_rows_add_their_panels_in_another_order",
        f"{KERNELS}/cpu/linear_panels.h",
        "    for (int64_t k = 0; k < p_.inputs; k += shape_.inputs) {\n",
        "    for (int64_t i = 0; i < p_.inputs; i += shape_.inputs) {\n"
        "      const int64_t panels = ceil_div(p_.inputs, cpu::kInputPanel);\n"
        "      const int64_t k = shape_.few || i == 0 ? i : panels * cpu::kInputPanel - i;\n",
        LINEAR_TESTS,
    ),
    Mutation(
        "activation_of_the_tail_by_another_formula",
        f"{KERNELS}/cpu/linear_finish.h",
        "    if (multiplier != nullptr) value =",
        "    if (kActivation == Activation::kSilu && count - n < Vec<T>::kLanes) {\n"
        "      const Vec<T> sum = Vec<T>::load(totals + n) + Vec<T>::load(bias + n);\n"
        "      value = sum - sum * sigmoid(Vec<T>::broadcast(T{0}) - sum);\n"
        "    }\n"
        "    if (multiplier != nullptr) value =",
        LINEAR_TESTS,
    ),
    Mutation(
        "multiplier_of_the_first_outputs_for_all",
        f"{KERNELS}/cpu/linear_finish.h",
        "m * p.multiplier.row_stride + outputs.begin",
        "m * p.multiplier.row_stride",
        LINEAR_TESTS,
    ),
    Mutation(
        "few_rows_of_tiles_in_another_order",
        f"{KERNELS}/cpu/linear_tiles.h",
        "totals[i][j] + (even[i][j] + odd[i][j])",
        "(totals[i][j] + even[i][j]) + odd[i][j]",
        LINEAR_TESTS,
    ),
    Mutation(
        "denormals_beside_tiles_count",
        f"{KERNELS}/cpu/tiles.h",
        "_mm_setcsr(saved_ | kFlushToZero | kDenormalsAreZero)",
        "_mm_setcsr(saved_ | (kFlushToZero & kDenormalsAreZero))",
        LINEAR_TESTS,
    ),
    Mutation(
        "infinite_values_meet_all_parts_of_a_weight",
        f"{KERNELS}/cpu/attention_tiles.h",
        "if (!is_finite(to_float(both[i])))",
        "if (both[i].bits == 1)",
        ACCURACY_TESTS,
    ),
    Mutation(
        "rows_that_overflowed_are_not_mended",
        f"{KERNELS}/cpu/attention_tiled.h",
        "right = right && !overflowed(",
        "right = right || !overflowed(",
        LARGE_VALUE_TESTS,
    ),
    Mutation(
        "chunks_that_overflowed_are_merged_as_they_are",
        f"{KERNELS}/cpu/few_results.h",
        "const T* values = has_small ? p.small : p.values;",
        "const T* values = p.values;",
        LARGE_VALUE_TESTS,
    ),
    Mutation(
        "heads_of_a_group_see_what_the_first_sees",
        f"{KERNELS}/cpu/attention_few.h",
        "if (bits != run.bits) {",
        "if (bits != 0 && run.bits == 0) {",
        EXACT_TESTS,
    ),
    Mutation(
        "mended_sums_are_not_used",
        f"{KERNELS}/overflow.h",
        "if (is_finite(first) || small != small) return first;",
        "if (small == small || small != small) return first;",
        LARGE_VALUE_TESTS,
    ),
    Mutation(
        "path_of_a_row_by_its_padded_queries",
        f"{KERNELS}/rows.h",
        "queries == 1 || length(keys) <= kFewKeys",
        "queries <= 8 || length(keys) <= kFewKeys",
        PATH_TESTS,
    ),
)

SCORES = (
    Mutation(
        "last_query_not_at_the_last_key",
        f"{KERNELS}/cpu/attention_tiled.h",
        "distance = mask_.position(queries_.begin + row) - key;",
        "distance = queries_.begin + row - key;",
        ACCURACY_TESTS,
    ),
    Mutation(
        "softcap_and_slopes_forgotten_in_a_step",
        f"{KERNELS}/cpu/attention_few.h",
        "    if (shape_.bends()) {\n",
        "    if (shape_.bends() && length(seen) > 64) {\n",
        ACCURACY_TESTS,
    ),
    Mutation(
        "tanh_that_cancels_near_0",
        f"{KERNELS}/cpu/score_shape.h",
        "return select_negative(size + Vec<float>::broadcast(0.75f), far, near);",
        "return far;",
        ACCURACY_TESTS,
    ),
    Mutation(
        # Right unless the sink is far above the scores.
        "sink_measured_from_the_largest_score",
        f"{KERNELS}/cpu/online_softmax.h",
        "if (!(sink > base())) return T{1} /",
        "if (sum > T{0}) return T{1} /",
        ACCURACY_TESTS,
    ),
    Mutation(
        "sink_of_another_head",
        f"{KERNELS}/scores.h",
        "row * values.batch_stride + head]",
        "row * values.batch_stride]",
        ACCURACY_TESTS,
    ),
)

MEMORY = (
    Mutation(
        "int32_offset_of_a_row",
        f"{KERNELS}/cpu/vec.h",
        "return batch * view.batch_stride + head * view.head_stride + row * view.row_stride;",
        "return static_cast<int32_t>(batch * view.batch_stride + head * view.head_stride + "
        "row * view.row_stride);",
        SIZE_TESTS,
    ),
    Mutation(
        "int32_offset_of_a_mask",
        f"{KERNELS}/mask.h",
        "return row * strides[0] + head * strides[1] + query * strides[2] + key * strides[3];",
        "return static_cast<int32_t>(row * strides[0] + head * strides[1] + query * strides[2] + "
        "key * strides[3]);",
        SIZE_TESTS,
    ),
    Mutation(
        "cache_one_slot_late",
        "csrc/ops/any_device/cached_attention.h",
        "append<Device>(op.kName, op.new_key, op.key_cache, slots);",
        "append<Device>(op.kName, op.new_key, op.key_cache, "
        "{std::min(slots.position + 1, op.key_cache.size(2) - op.query.size(2)), 0, nullptr});",
        CACHE_TESTS + GENERATE_TESTS,
    ),
)

INTEGRATION = (
    Mutation(
        "mask_function_not_registered",
        f"{PACKAGE}/hf/attention/interface.py",
        "    AttentionMaskInterface.register(NAME, make_mask)\n",
        "",
        INTERFACE_TESTS,
    ),
    Mutation(
        "mask_function_not_registered_and_not_checked",
        f"{PACKAGE}/hf/attention/interface.py",
        REGISTRATION,
        "",
        INTERFACE_TESTS,
    ),
    Mutation(
        "activation_of_an_mlp_by_torch",
        f"{PACKAGE}/hf/layers/mlp.py",
        "return None if act is None or _has_hooks(act) else inside_of_linear(act)",
        "return None",
        LAYER_TESTS,
    ),
    Mutation(
        "activation_outside_of_linear_by_torch",
        f"{PACKAGE}/hf/layers/activation.py",
        "return formula(x.float()).to(x.dtype) if x.dtype in HALVES else formula(x)",
        'return self.beneath("forward")(x)',
        LAYER_TESTS,
    ),
    Mutation(
        "layers_of_a_model_beside_are_taken",
        f"{PACKAGE}/hf/layers/scope.py",
        "if backbone not in parts:",
        "if not parts:",
        LAYER_TESTS,
    ),
    Mutation(
        "halves_of_a_fused_gate_swapped",
        f"{PACKAGE}/hf/layers/recipes.py",
        "gate, up = first.weight.chunk(2)",
        "up, gate = first.weight.chunk(2)",
        LAYER_TESTS,
    ),
    Mutation(
        "mean_of_a_sentence_counts_pads",
        f"{PACKAGE}/hf/layers/pooling.py",
        "hidden[:, None], key_mask=mask)",
        "hidden[:, None])",
        LAYER_TESTS,
    ),
    Mutation(
        "rows_of_a_static_cache_begin_at_the_first_slot",
        f"{PACKAGE}/hf/call/visibility.py",
        "if key_mask is not None:\n                return cls(",
        "if key_mask is None:\n                return cls(",
        WHOLE_GENERATE_TESTS,
    ),
    Mutation(
        "first_keys_of_a_smaller_cache_are_rounded",
        f"{PACKAGE}/hf/attention/planned.py",
        "(key, value) if unrounded else stored",
        "stored",
        WHOLE_GENERATE_TESTS,
    ),
    Mutation(
        "patched_forward_ignores_the_mask",
        f"{PACKAGE}/hf/call/visibility.py",
        '{"key_mask": self.key_mask, "attn_mask": self.attn_mask}',
        '{"key_mask": None, "attn_mask": self.attn_mask}',
        FORWARD_TESTS,
    ),
    Mutation(
        "positions_from_a_mask_begin_at_1",
        f"{PACKAGE}/masks.py",
        "(real.long().cumsum(-1) - 1)",
        "(real.long().cumsum(-1))",
        ("tests/python/test_masks.py",),
    ),
    Mutation(
        "positions_of_packed_tokens_off_by_one",
        f"{PACKAGE}/hf/call/positions.py",
        "torch.arange(call.queries, device=call.inputs.device) + filled",
        "torch.arange(call.queries, device=call.inputs.device) + filled + 1",
        POSITION_TESTS,
    ),
    Mutation(
        "windows_count_tokens_beside_holes",
        f"{PACKAGE}/hf/attention/planned.py",
        "layer.window is not None and packing.runs is None",
        "False",
        (f"{FAMILIES}/test_encoders.py",),
    ),
    Mutation(
        "packed_tokens_have_no_window",
        f"{PACKAGE}/hf/attention/planned.py",
        "window=layer.window,",
        "window=None,",
        (f"{FAMILIES}/test_decoders_generate.py",),
    ),
    Mutation(
        "a_pooler_reads_the_first_token_of_all",
        f"{PACKAGE}/hf/call/running.py",
        "    if pooler is not None and",
        "    if pooler is None and",
        (f"{FAMILIES}/test_encoders.py",),
    ),
    Mutation(
        "operators_are_not_told_the_softcap",
        f"{PACKAGE}/hf/attention/layer.py",
        "scale=self.scale, softcap=self.softcap, sinks=self.sinks",
        "scale=self.scale, sinks=self.sinks",
        SCORE_TESTS,
    ),
    Mutation(
        "operators_are_not_told_the_sinks",
        f"{PACKAGE}/hf/attention/layer.py",
        "scale=self.scale, softcap=self.softcap, sinks=self.sinks",
        "scale=self.scale, softcap=self.softcap",
        SCORE_TESTS,
    ),
    Mutation(
        "attention_of_torch_for_scores_that_it_does_not_know",
        f"{PACKAGE}/hf/attention/paths.py",
        "if textbook or not layer.is_plain:",
        "if textbook:",
        SCORE_TESTS,
    ),
    Mutation(
        "router_logits_keep_the_packed_shape",
        f"{PACKAGE}/hf/call/running.py",
        "        _unpack_router(out, plan.packing, family)\n",
        "",
        (f"{FAMILIES}/test_experts.py",),
    ),
    Mutation(
        "positions_of_an_opt_count_its_pads",
        f"{PACKAGE}/hf/call/positions.py",
        "if family.counts_mask and call.mask is not None:",
        "if False:",
        OWN_WAYS,
    ),
    Mutation(
        "positions_that_jump_part_every_row",
        f"{PACKAGE}/hf/call/plan.py",
        "if not family.parts_jumps:",
        "if False:",
        OWN_WAYS,
    ),
    Mutation(
        "layers_without_keywords_have_no_plan",
        f"{PACKAGE}/hf/attention/interface.py",
        "masked_attn_plan = running_plan()",
        "masked_attn_plan = None",
        OWN_WAYS,
    ),
    Mutation(
        "layers_without_keywords_have_a_plan_when_they_run_again",
        f"{PACKAGE}/hf/call/plan.py",
        "output_attentions and not has_encoder and family.keywords",
        "output_attentions and not has_encoder",
        OWN_WAYS,
    ),
    Mutation(
        "sequences_in_one_row_see_each_other",
        f"{PACKAGE}/hf/call/plan.py",
        "    sequences = _sequences(call, batch, queries, jumps)",
        "    sequences = None",
        (f"{MODELS}/test_packed_inputs.py",),
    ),
    Mutation(
        "packing_drops_the_last_token_of_a_row_from_the_cache",
        f"{PACKAGE}/hf/call/packing.py",
        "row[:, end:].zero_()",
        "row[:, end - 1 :].zero_()",
        PADDING_FREE_TESTS,
    ),
    Mutation(
        "buffer_counts_slots_before_they_are_written",
        f"{PACKAGE}/kv_cache.py",
        WRITE_THEN_COUNT,
        COUNT_THEN_WRITE,
        ("tests/python/test_kv_cache.py",),
    ),
    Mutation(
        "grown_cache_has_its_tokens_in_another_order",
        f"{PACKAGE}/kv_cache.py",
        ".detach()[:, :, : self.length])",
        ".detach()[:, :, : self.length].roll(1, 2))",
        ("tests/python/test_kv_cache.py",),
    ),
)

FLASH = (
    Mutation(
        "flash_window_is_one_key_short",
        f"{PACKAGE}/flash/_how.py",
        "return True, None if left is None else left + 1",
        "return True, None if left is None else max(left, 1)",
        ("tests/python/flash/test_dense.py",),
    ),
    Mutation(
        "flash_window_of_two_widths_is_taken_for_one",
        f"{PACKAGE}/flash/_how.py",
        "        if left == right or (",
        "        if left is not None or (",
        ("tests/python/flash/test_dense.py",),
    ),
    Mutation(
        "flash_wrong_sequence_has_the_slopes",
        f"{PACKAGE}/flash/_how.py",
        "slopes[row : row + 1]",
        "slopes[:1]",
        ("tests/python/flash/test_varlen.py",),
    ),
    Mutation(
        "flash_blocks_of_a_sequence_lie_in_order",
        f"{PACKAGE}/flash/_pages.py",
        "(table[row, token // size], token % size)",
        "(table[row, 0] + token // size, token % size)",
        ("tests/python/flash/test_varlen.py",),
    ),
    Mutation(
        "flash_pads_on_the_left_are_seen",
        f"{PACKAGE}/flash/kvcache.py",
        "whole = pads.same == 0",
        "whole = True",
        FLASH_CACHE_TESTS,
    ),
    Mutation(
        "flash_short_row_sees_behind_its_end",
        f"{PACKAGE}/flash/_attend.py",
        " & (slots < end[:, None])",
        "",
        FLASH_CACHE_TESTS,
    ),
    Mutation(
        "flash_slopes_count_from_the_longest_row",
        f"{PACKAGE}/flash/_attend.py",
        "(slots - (end[:, None] - 1)).abs()",
        "(slots - (end[:, None].max() - 1)).abs().expand(k.shape[0], -1)",
        FLASH_CACHE_TESTS,
    ),
    Mutation(
        "flash_new_tokens_of_a_ragged_batch_stand_in_one_slot",
        f"{PACKAGE}/flash/_cache.py",
        "after = torch.arange(tokens, device=self.device)[None]",
        "after = torch.arange(tokens, device=self.device)[None] * 0",
        FLASH_CACHE_TESTS,
    ),
    Mutation(
        "flash_all_queries_turn_at_one_position",
        f"{PACKAGE}/flash/kvcache.py",
        "filled.positions(queries if local else 1)",
        "filled.positions(1)",
        ("tests/python/flash/test_kvcache_blocks.py",),
    ),
    Mutation(
        "flash_rotary_turns_the_other_way",
        f"{PACKAGE}/flash/_rotary.py",
        "first * cos - second * sin, second * cos + first * sin",
        "first * cos + second * sin, second * cos - first * sin",
        ("tests/python/flash/test_kvcache_blocks.py",),
    ),
)

MUTATIONS = VISIBILITY + SUMS + SCORES + MEMORY + INTEGRATION + FLASH
