// The functions of cuFile that kvtier calls, in one list: name in the table, exported name, signature. cuFile is never
// closed, so closing it is not among them.
#pragma once

#include "platform/cufile/cufile_types.h"

namespace kvtier::cufile {

// Columns: member, exported symbol, return and parameters. Without one of these a library is too old for kvtier.
#define KVTIER_CUFILE_REQUIRED(X)                                                                                      \
  X(driver_open, "cuFileDriverOpen", Outcome())                                                                        \
  X(driver_get_properties, "cuFileDriverGetProperties", Outcome(Properties* properties))                               \
  X(handle_register, "cuFileHandleRegister", Outcome(Handle* handle, Description* description))                        \
  X(handle_deregister, "cuFileHandleDeregister", void(Handle handle))                                                  \
  X(buffer_register, "cuFileBufRegister", Outcome(const void* base, std::size_t bytes, int flags))                     \
  X(buffer_deregister, "cuFileBufDeregister", Outcome(const void* base))                                               \
  X(read, "cuFileRead", ssize_t(Handle handle, void* base, std::size_t bytes, off_t file_offset, off_t buffer_offset)) \
  X(write, "cuFileWrite",                                                                                              \
    ssize_t(Handle handle, const void* base, std::size_t bytes, off_t file_offset, off_t buffer_offset))

// The same for what older libraries lack.
#define KVTIER_CUFILE_OPTIONAL(X)                                                                \
  X(get_version, "cuFileGetVersion", Outcome(int* version))                                      \
  X(get_parameter_bool, "cuFileGetParameterBool", Outcome(BoolParameter parameter, bool* value)) \
  X(set_parameter_bool, "cuFileSetParameterBool", Outcome(BoolParameter parameter, bool value))

namespace signatures {
#define KVTIER_CUFILE_SIGNATURE(member, symbol, ...) using member = __VA_ARGS__;
KVTIER_CUFILE_REQUIRED(KVTIER_CUFILE_SIGNATURE)
KVTIER_CUFILE_OPTIONAL(KVTIER_CUFILE_SIGNATURE)
#undef KVTIER_CUFILE_SIGNATURE
}  // namespace signatures

// What a library filled. Every required member is set in one that can be used; an optional one is nullptr where the
// library has none.
struct Functions {
#define KVTIER_CUFILE_MEMBER(member, symbol, ...) signatures::member* member = nullptr;
  KVTIER_CUFILE_REQUIRED(KVTIER_CUFILE_MEMBER)
  KVTIER_CUFILE_OPTIONAL(KVTIER_CUFILE_MEMBER)
#undef KVTIER_CUFILE_MEMBER
};

}  // namespace kvtier::cufile
