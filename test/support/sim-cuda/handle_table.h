// Handles that a program gets for streams, events and the like: numbers that are no addresses, so that following one
// dies, and that are never given twice, so that a stale one is known for what it is. Guarded by the simulator's mutex.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>

namespace kvtier::sim {

template <typename Object, typename Handle>
class HandleTable {
 public:
  // `kind` tells handles of several tables apart.
  explicit HandleTable(std::uintptr_t kind) : first_((std::uintptr_t{0x0BAD} << 48U) | (kind << 40U)) {}

  Handle add(std::shared_ptr<Object> object) {
    const std::uintptr_t number = first_ + 16 * ++given_;
    objects_.emplace(number, std::move(object));
    return reinterpret_cast<Handle>(number);
  }

  // nullptr when there is no such handle, or no more.
  [[nodiscard]] std::shared_ptr<Object> find(Handle handle) const {
    const auto found = objects_.find(reinterpret_cast<std::uintptr_t>(handle));
    return found == objects_.end() ? nullptr : found->second;
  }

  // Whether the handle was one of these once.
  [[nodiscard]] bool was_given(Handle handle) const {
    const auto number = reinterpret_cast<std::uintptr_t>(handle);
    return number > first_ && number <= first_ + 16 * given_ && number % 16 == 0;
  }

  void remove(Handle handle) { objects_.erase(reinterpret_cast<std::uintptr_t>(handle)); }
  void clear() { objects_.clear(); }

  [[nodiscard]] std::size_t size() const { return objects_.size(); }
  // By age.
  [[nodiscard]] const std::map<std::uintptr_t, std::shared_ptr<Object>>& all() const { return objects_; }

 private:
  std::uintptr_t first_;
  std::uintptr_t given_ = 0;
  std::map<std::uintptr_t, std::shared_ptr<Object>> objects_;
};

}  // namespace kvtier::sim
