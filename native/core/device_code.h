// Marks of code that is compiled twice: for the CPU, and by nvcc for a GPU. Only functions and tables that both have
// carry them; such a header keeps to what both compilers take. Any thread.
#pragma once

#if defined(__CUDACC__)
#define KVTIER_DEVICE __device__ inline
// One that is worth a call, for it is large and rarely needed.
#define KVTIER_DEVICE_CALL __device__ __noinline__ inline
// A table at namespace scope, a copy of its own in each source.
#define KVTIER_DEVICE_TABLE static __device__ const
#define KVTIER_UNROLL _Pragma("unroll")
#define KVTIER_ROLLED _Pragma("unroll 1")
#else
#define KVTIER_DEVICE inline
#define KVTIER_DEVICE_CALL inline
#define KVTIER_DEVICE_TABLE inline constexpr
#define KVTIER_UNROLL
#define KVTIER_ROLLED
#endif
