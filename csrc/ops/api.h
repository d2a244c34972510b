// Marks what the operator library exports.
#pragma once

#define MASKED_ATTN_API __attribute__((visibility("default")))
