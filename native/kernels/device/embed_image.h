// A file as data of the program: KVTIER_EMBED(symbol, "path") in one source, which then reads `symbol`. Any thread.
#pragma once

// Read-only data of its own section, aligned as drivers expect it.
#define KVTIER_EMBED(symbol, path)        \
  __asm__(".pushsection .rodata." #symbol \
          ",\"a\",%progbits\n"            \
          ".balign 64\n"                  \
          ".global " #symbol              \
          "\n"                            \
          ".hidden " #symbol "\n" #symbol \
          ":\n"                           \
          ".incbin \"" path               \
          "\"\n"                          \
          ".popsection\n");               \
  extern "C" const unsigned char symbol[]
