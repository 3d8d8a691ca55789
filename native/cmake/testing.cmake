# What only tests and benchmarks load, into <build>/testing. None of it is in the package.
set(kvtier_test_dir ${PROJECT_SOURCE_DIR}/test)
file(GLOB_RECURSE kvtier_faulty_io_sources CONFIGURE_DEPENDS ${kvtier_test_dir}/support/faulty-io/*.cc)
file(GLOB_RECURSE kvtier_unit_test_sources CONFIGURE_DEPENDS ${kvtier_test_dir}/native/*.cc)
file(GLOB_RECURSE kvtier_limits_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/native/*.cc)
file(GLOB kvtier_verify_source CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/storage/verify.cc)

# The addon with `binding.testing`: faults and holds in the I/O seam.
kvtier_addon(kvtier_testing OUTPUT testing DEFINES KVTIER_TESTING SOURCES ${kvtier_faulty_io_sources})
# The same, with a comparison of checksums that always says yes: the crash tests must fail with it. Its own verify.cc
# comes before the storage layer's archive, so the linker never takes that one.
kvtier_addon(kvtier_unverified OUTPUT testing DEFINES KVTIER_TESTING KVTIER_UNVERIFIED
             SOURCES ${kvtier_faulty_io_sources} ${kvtier_verify_source})
# Limits that benchmarks divide by: plain loops over the machine, measured in the same process.
kvtier_addon(limits BARE OUTPUT testing SOURCES ${kvtier_limits_sources})

find_path(KVTIER_DOCTEST_INCLUDE doctest/doctest.h)
find_path(KVTIER_XXHASH_INCLUDE xxhash.h)
find_library(KVTIER_XXHASH_LIBRARY xxhash)
if(NOT KVTIER_DOCTEST_INCLUDE OR NOT KVTIER_XXHASH_INCLUDE OR NOT KVTIER_XXHASH_LIBRARY)
  message(STATUS "kvtier: no native unit tests: install doctest and xxhash (Debian: doctest-dev libxxhash-dev)")
else()
  add_executable(kvtier_unit_tests ${kvtier_unit_test_sources} ${kvtier_faulty_io_sources})
  target_include_directories(kvtier_unit_tests PRIVATE ${kvtier_test_dir})
  target_include_directories(kvtier_unit_tests SYSTEM PRIVATE ${KVTIER_DOCTEST_INCLUDE} ${KVTIER_XXHASH_INCLUDE})
  target_compile_definitions(kvtier_unit_tests PRIVATE KVTIER_TESTING)
  target_link_libraries(kvtier_unit_tests PRIVATE kvtier_layer_binding ${KVTIER_XXHASH_LIBRARY})
  set_target_properties(kvtier_unit_tests PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/testing)
  add_test(NAME native COMMAND kvtier_unit_tests)
endif()
