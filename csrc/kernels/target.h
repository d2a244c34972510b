// Every header of inline code is compiled once per target (an instruction set, the host, CUDA) and
// puts that code in a namespace of the target's name: two targets never share a symbol, so the
// linker can't hand one target's machine code to another.
#pragma once

#ifndef MASKED_ATTN_TARGET
#define MASKED_ATTN_TARGET host
#endif

#ifdef __CUDACC__
#define MASKED_ATTN_DEVICE __host__ __device__
#else
#define MASKED_ATTN_DEVICE
#endif
