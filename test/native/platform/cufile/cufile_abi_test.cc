// Holds kvtier's own declarations of cuFile against the vendor's header, where a toolkit has it: functions when this is
// compiled, numbers when it runs.
#include <doctest/doctest.h>

#if __has_include(<cuda.h>) && __has_include(<cufile.h>)
#include <cufile.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "native/platform/same_call.h"
#include "platform/cufile/cufile_error.h"
#include "platform/cufile/cufile_functions.h"

namespace {

namespace cufile = kvtier::cufile;
namespace signatures = kvtier::cufile::signatures;
using kvtier::same_call::SameCall;

#define CHECK_CALL(member, theirs) static_assert(SameCall<signatures::member, decltype(theirs)>::value)
CHECK_CALL(driver_open, cuFileDriverOpen);
CHECK_CALL(driver_get_properties, cuFileDriverGetProperties);
CHECK_CALL(handle_register, cuFileHandleRegister);
CHECK_CALL(handle_deregister, cuFileHandleDeregister);
CHECK_CALL(buffer_register, cuFileBufRegister);
CHECK_CALL(buffer_deregister, cuFileBufDeregister);
CHECK_CALL(read, cuFileRead);
CHECK_CALL(write, cuFileWrite);
CHECK_CALL(get_version, cuFileGetVersion);
CHECK_CALL(get_parameter_bool, cuFileGetParameterBool);
CHECK_CALL(set_parameter_bool, cuFileSetParameterBool);

constexpr std::size_t kCompared = 11;
constexpr std::size_t kFunctions = 0
#define COUNT_ONE(...) +1
    KVTIER_CUFILE_REQUIRED(COUNT_ONE) KVTIER_CUFILE_OPTIONAL(COUNT_ONE)
#undef COUNT_ONE
    ;
static_assert(kCompared == kFunctions, "a function of the list is not compared here");

}  // namespace

#define CHECK_OFFSET(our_type, ours, their_type, theirs) \
  CHECK(offsetof(cufile::our_type, ours) == offsetof(their_type, theirs))

TEST_CASE("the errors are those of cufile.h, and each of its errors has a text") {
#define CHECK_ERROR(name, number, vendor, text) CHECK(number == static_cast<int>(CU_FILE_##vendor));
  KVTIER_CUFILE_ERRORS(CHECK_ERROR)
#undef CHECK_ERROR
  CHECK(static_cast<int>(cufile::Error::kSuccess) == static_cast<int>(CU_FILE_SUCCESS));
  CHECK(cufile::kErrorBase == CUFILEOP_BASE_ERR);
#define CHECK_TEXT(number, name, text)                        \
  CHECK(((number) == 0 || (number) == CU_FILE_IO_MAX_ERROR || \
         cufile::describe({}, {.error = static_cast<cufile::Error>(number)}).starts_with(#name " (")));
#define CUFILE_OP CHECK_TEXT
  CUFILEOP_STATUS_ENTRIES
#undef CUFILE_OP
#undef CHECK_TEXT
}

TEST_CASE("the flags and parameters are those of cufile.h") {
  CHECK(static_cast<int>(cufile::HandleType::kFileDescriptor) == CU_FILE_HANDLE_TYPE_OPAQUE_FD);
  CHECK(cufile::kControlAllowCompatMode == 1U << static_cast<unsigned>(CU_FILE_ALLOW_COMPAT_MODE));
  CHECK(static_cast<int>(cufile::BoolParameter::kAllowCompatMode) == CUFILE_PARAM_PROPERTIES_ALLOW_COMPAT_MODE);
  CHECK(static_cast<int>(cufile::BoolParameter::kForceCompatMode) == CUFILE_PARAM_FORCE_COMPAT_MODE);
}

TEST_CASE("the structures lie in memory as those of cufile.h") {
  CHECK(sizeof(cufile::Outcome) == sizeof(CUfileError_t));
  CHECK_OFFSET(Outcome, error, CUfileError_t, err);
  CHECK_OFFSET(Outcome, cuda_error, CUfileError_t, cu_err);
  CHECK(sizeof(cufile::Description) == sizeof(CUfileDescr_t));
  CHECK_OFFSET(Description, type, CUfileDescr_t, type);
  CHECK_OFFSET(Description, file, CUfileDescr_t, handle);
  CHECK_OFFSET(Description, file_system, CUfileDescr_t, fs_ops);
  CHECK(sizeof(cufile::Properties) == sizeof(CUfileDrvProps_t));
  CHECK_OFFSET(Properties, nvfs_major, CUfileDrvProps_t, nvfs.major_version);
  CHECK_OFFSET(Properties, nvfs_minor, CUfileDrvProps_t, nvfs.minor_version);
  CHECK_OFFSET(Properties, poll_threshold_kb, CUfileDrvProps_t, nvfs.poll_thresh_size);
  CHECK_OFFSET(Properties, direct_io_kb_max, CUfileDrvProps_t, nvfs.max_direct_io_size);
  CHECK_OFFSET(Properties, status_flags, CUfileDrvProps_t, nvfs.dstatusflags);
  CHECK_OFFSET(Properties, control_flags, CUfileDrvProps_t, nvfs.dcontrolflags);
  CHECK_OFFSET(Properties, feature_flags, CUfileDrvProps_t, fflags);
  CHECK_OFFSET(Properties, device_cache_kb_max, CUfileDrvProps_t, max_device_cache_size);
  CHECK_OFFSET(Properties, buffer_cache_kb, CUfileDrvProps_t, per_buffer_cache_size);
  CHECK_OFFSET(Properties, pinned_memory_kb_max, CUfileDrvProps_t, max_device_pinned_mem_size);
  CHECK_OFFSET(Properties, batch_io_max, CUfileDrvProps_t, max_batch_io_size);
  CHECK_OFFSET(Properties, batch_io_timeout_ms, CUfileDrvProps_t, max_batch_io_timeout_msecs);
}

#else

TEST_CASE("the declarations are those of cufile.h: no toolkit with it is installed" * doctest::skip()) {}

#endif
