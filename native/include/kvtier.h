/*
 * For other Node-API addons: how an inference engine hands its GPU memory, streams and events to kvtier.
 *
 * kvtier_wrap() makes a JavaScript value of a kvtier_pointer; that value is what kvtier's options and fences take where
 * they say `External`. kvtier only reads the fields. The value holds no share of what it names: memory must stay until
 * the manager that borrows it is closed, a stream or event until the call that takes it as a fence has returned.
 *
 * Plain C or C++, Node-API version 8 or later; nothing to link. The values cross between addons that were built apart,
 * so the struct never changes but at its end.
 */
#ifndef KVTIER_H_
#define KVTIER_H_

#include <node_api.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

enum kvtier_pointer_kind {
  KVTIER_MEMORY = 1, /* address is a CUdeviceptr, bytes its length */
  KVTIER_STREAM = 2, /* address is a CUstream (or cudaStream_t) */
  KVTIER_EVENT = 3   /* address is a CUevent (or cudaEvent_t) */
};

typedef struct kvtier_pointer {
  uint32_t size_bytes; /* sizeof(kvtier_pointer) of whoever filled it */
  uint32_t kind;       /* enum kvtier_pointer_kind */
  uint64_t address;
  uint64_t bytes;  /* of memory; 0 otherwise */
  int32_t ordinal; /* the GPU as this process counts them, -1 where it is not known */
  uint32_t reserved;
} kvtier_pointer;

/* Marks the values, so that nothing else is ever read as one. */
#define KVTIER_POINTER_TAG_LOWER 0x6b76746965720010ULL
#define KVTIER_POINTER_TAG_UPPER 0x8e1bb04d5a6c92f7ULL

static inline void kvtier_free_pointer(napi_env env, void* data, void* hint) {
  (void)env;
  (void)hint;
  free(data);
}

/* The JavaScript value of a copy of `pointer`. Fails as the calls of Node-API in it do. */
static inline napi_status kvtier_wrap(napi_env env, const kvtier_pointer* pointer, napi_value* result) {
  static const napi_type_tag tag = {KVTIER_POINTER_TAG_LOWER, KVTIER_POINTER_TAG_UPPER};
  kvtier_pointer* copy = (kvtier_pointer*)malloc(sizeof(kvtier_pointer));
  if (copy == NULL) return napi_generic_failure;
  *copy = *pointer;
  napi_status status = napi_create_object(env, result);
  if (status == napi_ok) status = napi_wrap(env, *result, copy, kvtier_free_pointer, NULL, NULL);
  if (status != napi_ok) {
    free(copy);
    return status;
  }
  return napi_type_tag_object(env, *result, &tag);
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* KVTIER_H_ */
