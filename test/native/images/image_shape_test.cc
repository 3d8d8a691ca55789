#include "images/image_shape.h"

#include <doctest/doctest.h>

#include <functional>
#include <string>

using namespace kvtier;

namespace {

// An attention cache with a transposed V, a latent one and a recurrent state.
ImageShape shape_of_all() {
  const LayerRows transposed{.k_type = 1, .k_row_bytes = 48, .v_type = 1, .v_row_bytes = 32, .v_element_bytes = 2};
  const LayerRows latent{.k_type = 1, .k_row_bytes = 64};
  const LayerRows state{.k_type = 0, .k_row_bytes = 40, .v_type = 0, .v_row_bytes = 72};
  ImageShape shape;
  shape.version = 3;
  shape.sections = {{.kind = SectionKind::kAttention,
                     .streams = 3,
                     .stream = 1,
                     .sequence = 1,
                     .transposed = true,
                     .model_layers = 2,
                     .layers = {transposed, transposed}},
                    {.kind = SectionKind::kLatent, .streams = 1, .model_layers = 1, .layers = {latent}},
                    {.kind = SectionKind::kRecurrent, .model_layers = 6, .layers = {state, state}}};
  return shape;
}

}  // namespace

TEST_CASE("a shape is the same after it was words") {
  const auto again = ImageShape::from_words(shape_of_all().to_words());
  REQUIRE_MESSAGE(again.is_ok(), again.status().message());
  CHECK(again.value() == shape_of_all());
}

TEST_CASE("each part of a shape that no image has is refused as words") {
  using Change = std::function<void(ImageShape&)>;
  const auto refused = [](const Change& change, const std::string& why) {
    ImageShape shape = shape_of_all();
    change(shape);
    const auto read = ImageShape::from_words(shape.to_words());
    REQUIRE_FALSE(read.is_ok());
    CHECK(read.status().code() == Code::kInvalidValue);
    CHECK(read.status().message() == "shape is not one that a read image had: " + why);
  };
  const auto section = [](std::size_t i, const std::function<void(SectionShape&)>& change) {
    return [i, change](ImageShape& shape) { change(shape.sections[i]); };
  };
  const auto first = [&](const std::function<void(SectionShape&)>& change) { return section(0, change); };
  refused([](ImageShape& shape) { shape.sections.clear(); }, "it has 0 sections");
  refused([](ImageShape& shape) { shape.sections.resize(9, shape.sections[0]); }, "it has 9 sections");
  refused([](ImageShape& shape) { std::swap(shape.sections[0], shape.sections[2]); },
          "a recurrent section was named before the last; its end is the image's end");
  refused(first([](SectionShape& s) { s.streams = 0; }), "section 0: the number of streams is 0; expected 1 to 256");
  refused(first([](SectionShape& s) { s.streams = 257; }),
          "section 0: the number of streams is 257; expected 1 to 256");
  refused(first([](SectionShape& s) { s.stream = 3; }), "section 0: the stream with cells is 3; expected 0 to 2");
  refused(first([](SectionShape& s) { s.sequence = 256; }),
          "section 0: the sequence of a cell is 256; expected 0 to 255");
  refused(first([](SectionShape& s) { s.model_layers = 3; }), "section 0: the numbers of layers differ");
  refused(first([](SectionShape& s) { s.layers.clear(); }), "section 0: the number of layers is 0; expected 1 to 4096");
  refused(first([](SectionShape& s) { s.layers[1].k_type = 256; }),
          "section 0: an element type is 256; expected 0 to 255");
  refused(first([](SectionShape& s) { s.layers[1].v_type = 0xffffffff; }),
          "section 0: an element type is 4294967295; expected 0 to 255");
  refused(first([](SectionShape& s) { s.layers[1].v_row_bytes = 33; }),
          "section 0: a row of V has no whole number of elements");
  refused(first([](SectionShape& s) { s.layers[1].v_element_bytes = 0; }),
          "section 0: the bytes of an element of V are 0; expected 1, 2, 4 or 8");
  refused(first([](SectionShape& s) { s.transposed = false; }),
          "section 0: a layer that is not transposed has a size of V's elements");
  refused(first([](SectionShape& s) { s.layers[0].k_row_bytes = 0xffffffff; }),
          "section 0: the bytes of a token is 4294967407; expected 1 to 1073741824");
  refused(section(1, [](SectionShape& s) { s.layers[0].v_row_bytes = 2; }), "section 1: a latent layer has a row of V");
  refused(section(1, [](SectionShape& s) { s.layers[0].k_row_bytes = 0; }),
          "section 1: the bytes of a token is 0; expected 1 to 1073741824");
  refused(section(2, [](SectionShape& s) { s.streams = 1; }),
          "section 2: a recurrent state has streams, a sequence or a transposition");
  refused(section(2, [](SectionShape& s) { s.model_layers = 1; }),
          "section 2: the number of layers with a state is 2; expected 1 to 1");
  refused(section(2, [](SectionShape& s) { s.model_layers = 4097; }),
          "section 2: the number of the model's layers is 4097; expected 1 to 4096");
  refused(section(2, [](SectionShape& s) { s.layers[1].k_row_bytes = 41; }),
          "section 2: layers with a state have rows of different sizes");
}
