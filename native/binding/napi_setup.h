// The one place that includes napi.h, so that its switches are the same everywhere: exceptions on (in this layer
// alone), and errors of an environment that is going away swallowed. With other settings, a worker thread that is
// terminated while calls settle aborts or crashes the process. The JavaScript thread only.
#pragma once

#if !defined(NODE_ADDON_API_CPP_EXCEPTIONS) && !defined(NAPI_CPP_EXCEPTIONS)
#error "the binding needs C++ exceptions: define NODE_ADDON_API_CPP_EXCEPTIONS"
#endif
#if !defined(NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS)
#error "the binding needs NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
#endif

#include <napi.h>
