// Reading the small text files in which a kernel describes the machine (/proc and /sys). Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kvtier {

// The file's text without trailing white space, at most `limit` bytes of it; nullopt when it cannot be read.
[[nodiscard]] std::optional<std::string> read_text_file(const std::string& path, std::size_t limit = 64 * 1024);

// The number after "<name>" at the start of a line, as in /proc/meminfo; nullopt when there is none.
[[nodiscard]] std::optional<std::uint64_t> number_after(std::string_view text, std::string_view name) noexcept;

}  // namespace kvtier
