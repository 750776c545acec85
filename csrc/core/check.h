// Checks of our own assumptions. A caller's mistake is an exception, checked once at the border.
#pragma once

#include <cstdio>
#include <cstdlib>

#ifdef FASTRL_DEBUG
#define FASTRL_DCHECK(condition)                                                          \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "%s:%d: FASTRL_DCHECK(%s)\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                       \
    }                                                                                     \
  } while (false)
#else
#define FASTRL_DCHECK(condition) static_cast<void>(sizeof(condition))
#endif
