// Marks the doors of the kernels: what their shared library exports.
#pragma once

#define MASKED_ATTN_KERNELS_API __attribute__((visibility("default")))
