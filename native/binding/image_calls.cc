// Calls on state images: files in memory that an engine writes and reads by their path. One call at a time uses an
// image; the work runs on engine threads.
#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "binding/calls.h"
#include "binding/results.h"
#include "images/cut_blocks.h"
#include "images/llama/read_state.h"
#include "images/llama/write_state.h"
#include "images/same_bytes.h"

namespace kvtier {
namespace {

constexpr std::array kSectionKinds = {SectionKind::kAttention, SectionKind::kLatent, SectionKind::kRecurrent};
static_assert(kSectionKinds.size() == kSectionKindCount);

// A call's turn with an image; over when the task's body goes, which is before it reports.
class Turn {
 public:
  explicit Turn(std::shared_ptr<SharedImage> image) : image_(std::move(image)) {
    if (!image_->begin()) {
      image_.reset();
      fail(Code::kInvalidValue, "image is in use by a call that has not ended");
    }
  }
  ~Turn() {
    if (image_) image_->end();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  [[nodiscard]] SharedImage& image() const noexcept { return *image_; }

 private:
  std::shared_ptr<SharedImage> image_;
};

std::shared_ptr<Turn> take_turn(const Napi::Value& value) {
  return std::make_shared<Turn>(read_image(value, "image").image);
}

// One section, ready to be made an object of.
struct SectionResult {
  SectionKind kind;
  std::size_t layers;
  std::uint32_t first_position;
  std::uint32_t cell_count;
  std::uint64_t bytes_per_token;
  bool transposed;
  std::vector<std::uint32_t> rows;
};

struct ReadImageResult final : ScriptPayload {
  [[nodiscard]] Napi::Value to_script(AddonData& data, Napi::Env env) override;

  std::uint32_t version = 0;
  std::vector<std::uint32_t> tokens;
  std::vector<std::uint32_t> shape;
  std::vector<SectionResult> sections;
};

struct BuiltImageResult final : ScriptPayload {
  [[nodiscard]] Napi::Value to_script(AddonData& data, Napi::Env env) override;

  std::uint64_t size_bytes = 0;
  std::vector<std::uint32_t> bad;
};

struct SameBytesResult final : ScriptPayload {
  [[nodiscard]] Napi::Value to_script(AddonData& /*data*/, Napi::Env env) override {
    return Napi::Boolean::New(env, same);
  }

  bool same = false;
};

Napi::Uint32Array words_array(Napi::Env env, std::vector<std::uint32_t>&& values) {
  const std::size_t length = values.size();
  return Napi::Uint32Array::New(env, length, adopt_vector(env, std::move(values)), 0);
}

Napi::Value ReadImageResult::to_script(AddonData& /*data*/, Napi::Env env) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("version", version);
  object.Set("tokens", words_array(env, std::move(tokens)));
  object.Set("shape", words_array(env, std::move(shape)));
  Napi::Array array = Napi::Array::New(env, sections.size());
  for (std::uint32_t i = 0; i < sections.size(); ++i) {
    SectionResult& section = sections[i];
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("kind", name_of(section.kind));
    entry.Set("layers", static_cast<double>(section.layers));
    entry.Set("firstPosition", section.first_position);
    entry.Set("cellCount", section.cell_count);
    entry.Set("bytesPerToken", static_cast<double>(section.bytes_per_token));
    entry.Set("transposed", section.transposed);
    entry.Set("rows", words_array(env, std::move(section.rows)));
    array.Set(i, entry);
  }
  object.Set("sections", array);
  return object;
}

Napi::Value BuiltImageResult::to_script(AddonData& /*data*/, Napi::Env env) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("bytes", static_cast<double>(size_bytes));
  object.Set("bad", words_array(env, std::move(bad)));
  return object;
}

SectionResult result_of(const SectionShape& shape, const SectionPlace& place) {
  SectionResult result{.kind = shape.kind,
                       .layers = shape.layers.size(),
                       .first_position = place.first_position,
                       .cell_count = place.cell_count,
                       .bytes_per_token = shape.bytes_per_token(),
                       .transposed = shape.transposed && shape.kind == SectionKind::kAttention,
                       .rows = {}};
  for (const LayerRows& rows : shape.layers) {
    result.rows.insert(result.rows.end(), {rows.k_type, rows.k_row_bytes, rows.v_type, rows.v_row_bytes});
  }
  return result;
}

Napi::Array read_array(const Napi::Value& value, const char* name, std::uint32_t most) {
  if (!value.IsArray()) fail(Code::kInvalidType, std::string(name) + " must be an array, got " + describe_value(value));
  const Napi::Array array = value.As<Napi::Array>();
  if (array.Length() > most) {
    fail(Code::kInvalidValue, std::string(name) + " must have at most " + std::to_string(most) + " elements, got " +
                                  std::to_string(array.Length()));
  }
  return array;
}

SectionKind read_kind(const Napi::Value& value, const char* name) {
  const std::string text = read_string(value, name);
  for (const SectionKind kind : kSectionKinds) {
    if (text == name_of(kind)) return kind;
  }
  fail(Code::kInvalidValue,
       std::string(name) + " must be one of 'attention', 'latent', 'recurrent', got '" + text + "'");
}

std::vector<SectionKind> read_kinds(const Napi::Value& value) {
  const Napi::Array array = read_array(value, "sections", kMaxSections);
  std::vector<SectionKind> kinds;
  const std::uint32_t count = array.Length();
  for (std::uint32_t i = 0; i < count; ++i) {
    kinds.push_back(read_kind(read_element(array, i), ("sections[" + std::to_string(i) + "]").c_str()));
  }
  check(check_kinds(kinds));
  return kinds;
}

std::vector<std::uint32_t> copy_words(const Napi::Value& value, const char* name) {
  const std::span<std::uint32_t> words = read_words(value, name);
  return {words.begin(), words.end()};
}

TaskOutcome read_task(SharedImage& image, const std::vector<SectionKind>& kinds, std::uint32_t max_tokens) {
  image.image.reset();
  Result<Image> read = llama::read_state(image.file(), kinds, max_tokens);
  if (!read.is_ok()) return outcome_of(read.status());
  auto result = std::make_unique<ReadImageResult>();
  image.image = std::move(read).value();
  result->version = image.image->shape.version;
  result->tokens = std::exchange(image.image->tokens, {});
  result->shape = image.image->shape.to_words();
  for (std::size_t i = 0; i < image.image->sections.size(); ++i) {
    result->sections.push_back(result_of(image.image->shape.sections[i], image.image->sections[i]));
  }
  return {Code::kOk, {}, std::move(result)};
}

Status cut_task(SharedImage& image, std::uint32_t section, const SharedStorage& storage,
                const std::vector<BlockMove>& moves) {
  if (!image.image) return Status(Code::kInvalidValue, "the image was not read since something was written into it");
  const std::size_t count = image.image->sections.size();
  if (section >= count) {
    return Status(Code::kInvalidValue,
                  "section " + std::to_string(section) + " was asked for; the image has " + std::to_string(count));
  }
  return cut_blocks(image.file(), image.image->shape.sections[section], image.image->sections[section],
                    storage.storage(), moves);
}

// What startBuildImage copies of a source before it returns.
struct CopiedSource {
  std::shared_ptr<SharedStorage> storage;
  std::uint32_t first_block = 0;
  std::vector<std::uint32_t> slots;
  std::vector<SequenceHash> hashes;
};

std::vector<CopiedSource> copy_sources(const Napi::Value& value) {
  const Napi::Array array = read_array(value, "sources", kMaxSections);
  std::vector<CopiedSource> sources;
  const std::uint32_t count = array.Length();
  // Every property first: a getter may run JavaScript, which may detach or close what was read before.
  std::vector<std::array<Napi::Value, 4>> all;
  for (std::uint32_t i = 0; i < count; ++i) {
    const Napi::Object source = read_object(read_element(array, i), ("sources[" + std::to_string(i) + "]").c_str());
    all.push_back({read_property(source, "storage"), read_property(source, "firstBlock"),
                   read_property(source, "slots"), read_property(source, "hashes")});
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string name = "sources[" + std::to_string(i) + "].";
    CopiedSource& copy = sources.emplace_back();
    copy.storage = read_storage(all[i][0], (name + "storage").c_str()).storage;
    copy.first_block = read_u32(all[i][1], (name + "firstBlock").c_str());
    copy.slots = copy_words(all[i][2], (name + "slots").c_str());
    const std::span<std::uint8_t> hashes =
        read_bytes(all[i][3], (name + "hashes").c_str(), copy.slots.size() * kHashBytes, "32 a slot");
    copy.hashes.resize(copy.slots.size());
    if (!hashes.empty()) std::memcpy(copy.hashes.data(), hashes.data(), hashes.size());
  }
  return sources;
}

TaskOutcome build_task(SharedImage& image, const std::vector<std::uint32_t>& words,
                       const std::vector<std::uint32_t>& tokens, const std::vector<CopiedSource>& copies) {
  image.image.reset();
  const Result<ImageShape> shape = ImageShape::from_words(words);
  if (!shape.is_ok()) {
    image.file().clear();
    return outcome_of(shape.status());
  }
  std::vector<BlockSource> sources;
  for (const CopiedSource& copy : copies) {
    sources.push_back({&copy.storage->storage(), copy.first_block, copy.slots, copy.hashes});
  }
  const Result<llama::WrittenState> written = llama::write_state(image.file(), shape.value(), tokens, sources);
  if (!written.is_ok()) return outcome_of(written.status());
  auto result = std::make_unique<BuiltImageResult>();
  result->size_bytes = written.value().size_bytes;
  for (const llama::BadBlock& block : written.value().bad) {
    result->bad.insert(result->bad.end(), {block.section, block.index});
  }
  return {Code::kOk, {}, std::move(result)};
}

TaskOutcome compare_task(SharedImage& a, SharedImage& b) {
  const Result<bool> same = same_bytes(a.file(), b.file());
  if (!same.is_ok()) return outcome_of(same.status());
  auto result = std::make_unique<SameBytesResult>();
  result->same = same.value();
  return {Code::kOk, {}, std::move(result)};
}

}  // namespace

Napi::Value open_image(AddonData& data, const Napi::CallbackInfo& info) {
  client_of(data);
  MemoryFile file = take_value(MemoryFile::create());
  auto box = std::make_unique<ImageBox>();
  box->owner = &data;
  box->client = data.client;
  box->image = std::make_shared<SharedImage>(std::move(file), data.queue);
  return wrap(info.Env(), std::move(box));
}

Napi::Value image_path(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), read_image(info[0], "image").image->path());
}

Napi::Value start_read_image(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  const std::string engine = read_string(info[2], "engine");
  if (engine != "llama") fail(Code::kInvalidValue, "engine must be 'llama', got '" + engine + "'");
  std::vector<SectionKind> kinds = read_kinds(info[3]);
  const std::uint32_t max_tokens = read_u32(info[4], "maxTokens");
  const std::shared_ptr<Turn> turn = take_turn(info[1]);
  start_task(data, ticket, Lane::kLong, {},
             [turn, kinds = std::move(kinds), max_tokens] { return read_task(turn->image(), kinds, max_tokens); });
  return info.Env().Undefined();
}

Napi::Value start_cut_image(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  const std::uint32_t section = read_u32(info[2], "section", 0, kMaxSections - 1);
  const std::shared_ptr<SharedStorage> storage = read_storage(info[3], "storage").storage;
  const std::span<std::uint32_t> words = read_words(info[4], "moves");
  if (words.size() % 2 != 0) {
    fail(Code::kInvalidValue, "moves must have 2 elements a block, got " + std::to_string(words.size()));
  }
  std::vector<BlockMove> moves;
  moves.reserve(words.size() / 2);
  for (std::size_t i = 0; i < words.size(); i += 2) moves.push_back({words[i], words[i + 1]});
  const std::shared_ptr<Turn> turn = take_turn(info[1]);
  start_task(data, ticket, Lane::kLong, {storage}, [turn, section, storage, moves = std::move(moves)] {
    return outcome_of(cut_task(turn->image(), section, *storage, moves));
  });
  return info.Env().Undefined();
}

Napi::Value start_build_image(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  std::vector<CopiedSource> sources = copy_sources(info[4]);
  std::vector<std::uint32_t> shape = copy_words(info[2], "shape");
  std::vector<std::uint32_t> tokens = copy_words(info[3], "tokens");
  std::vector<std::shared_ptr<SharedStorage>> uses;
  for (const CopiedSource& source : sources) uses.push_back(source.storage);
  const std::shared_ptr<Turn> turn = take_turn(info[1]);
  start_task(data, ticket, Lane::kLong, std::move(uses),
             [turn, shape = std::move(shape), tokens = std::move(tokens), sources = std::move(sources)] {
               return build_task(turn->image(), shape, tokens, sources);
             });
  return info.Env().Undefined();
}

Napi::Value start_compare_images(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  const std::shared_ptr<Turn> a = take_turn(info[1]);
  const std::shared_ptr<Turn> b = take_turn(info[2]);
  start_task(data, ticket, Lane::kLong, {}, [a, b] { return compare_task(a->image(), b->image()); });
  return info.Env().Undefined();
}

Napi::Value start_close_image(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  ImageBox& box = read_image(info[1], "image");
  EngineClient& client = client_of(data);
  Expected expected(data, ticket);
  box.image->report_end(ticket);
  expected.started();
  client.let_go(std::move(box.image));
  return info.Env().Undefined();
}

}  // namespace kvtier
