#include "platform/text_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

namespace kvtier {

std::optional<std::string> read_text_file(const std::string& path, std::size_t limit) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return std::nullopt;
  std::string text;
  bool readable = true;
  while (text.size() < limit) {
    char chunk[4096];
    const ssize_t got = ::read(fd, chunk, std::min(sizeof chunk, limit - text.size()));
    if (got < 0 && errno == EINTR) continue;
    readable = got >= 0;
    if (got <= 0) break;
    text.append(chunk, static_cast<std::size_t>(got));
  }
  ::close(fd);
  if (!readable) return std::nullopt;
  text.erase(text.find_last_not_of(" \t\r\n") + 1);
  return text;
}

std::optional<std::uint64_t> number_after(std::string_view text, std::string_view name) noexcept {
  for (std::size_t line = 0; line < text.size();) {
    const std::size_t end = std::min(text.find('\n', line), text.size());
    std::string_view rest = text.substr(line, end - line);
    line = end + 1;
    if (!rest.starts_with(name)) continue;
    rest.remove_prefix(name.size());
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t:"), rest.size()));
    std::uint64_t number = 0;
    const auto [stop, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    if (error == std::errc() && stop != rest.data()) return number;
  }
  return std::nullopt;
}

}  // namespace kvtier
