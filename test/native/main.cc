// The entry of the native unit tests: doctest's own main, compiled once. One thread.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
