#include "server/client/sentence_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sentencekv {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::SourceSentence Source(int64_t begin, double share,
                          const std::string& text) {
  v1::SourceSentence source;
  source.set_begin(begin);
  source.set_end(begin + 12);
  source.set_share(share);
  source.set_times_chosen(7);
  source.set_text(text);
  return source;
}

std::vector<v1::SentenceReads> TwoSentences() {
  std::vector<v1::SentenceReads> reads(2);
  reads[0].set_begin(4001);
  reads[0].set_end(4010);
  reads[0].set_text(" It is in the hall.\n");
  reads[0].set_selections(90);
  *reads[0].add_sources() = Source(402, 0.55, "The dinner\n\n is in the hall.");
  *reads[0].add_sources() = Source(4002, 0.0625, "It rained.");
  reads[0].mutable_sources(1)->set_generated(true);
  reads[1].set_text("Good.");
  reads[1].set_whole_context(true);
  return reads;
}

TEST(SentenceView, ShowsBarShareAndPlace) {
  EXPECT_EQ(RenderReads(TwoSentences(), {}),
            "It is in the hall.\n"
            "  █████▌      55 %   402  The dinner is in the hall.\n"
            "  ▋            6 %  4002 (answer)  It rained.\n"
            "Good.\n"
            "  read from the whole context\n");
  EXPECT_EQ(RenderReads({}, {}), "");
}

TEST(SentenceView, LinesFitTheWidth) {
  std::vector<v1::SentenceReads> reads = TwoSentences();
  const std::string long_text(300, 'x');
  reads[0].set_text(long_text);
  reads[0].mutable_sources(0)->set_text(long_text);
  const std::string view = RenderReads(reads, {.width = 60});
  EXPECT_THAT(view, HasSubstr(std::string(59, 'x') + "…\n"));
  // 26 characters stand before the text.
  EXPECT_THAT(view, HasSubstr(" 402  " + std::string(33, 'x') + "…\n"));
}

TEST(SentenceView, ColoursOnlyWhenAsked) {
  EXPECT_THAT(RenderReads(TwoSentences(), {}), Not(HasSubstr("\x1b")));
  EXPECT_THAT(RenderReads(TwoSentences(), {.colour = true}),
              HasSubstr("\x1b[1mIt is in the hall.\x1b[0m\n"));
}

TEST(SentenceView, OneLineCutsBetweenCharacters) {
  EXPECT_EQ(OneLine("  a \t\n b\r\n", 10), "a b");
  EXPECT_EQ(OneLine("ab\x1b[31mred\x7f", 20), "ab [31mred");
  EXPECT_EQ(OneLine("äöüß", 4), "äöüß");
  EXPECT_EQ(OneLine("äöüßé", 4), "äöü…");
  EXPECT_EQ(OneLine("", 4), "");
}

TEST(SentenceView, JsonHasEveryDocumentedField) {
  const nlohmann::json json = ReadsToJson(TwoSentences());
  ASSERT_EQ(json.size(), 2u);
  EXPECT_EQ(json[0]["begin"], 4001);
  EXPECT_EQ(json[0]["end"], 4010);
  EXPECT_EQ(json[0]["text"], " It is in the hall.\n");
  EXPECT_EQ(json[0]["whole_context"], false);
  EXPECT_EQ(json[0]["selections"], 90);
  const nlohmann::json& source = json[0]["sources"][1];
  EXPECT_EQ(source["begin"], 4002);
  EXPECT_EQ(source["end"], 4014);
  EXPECT_EQ(source["text"], "It rained.");
  EXPECT_EQ(source["generated"], true);
  EXPECT_EQ(source["share"], 0.0625);
  EXPECT_EQ(source["times_chosen"], 7);
  EXPECT_EQ(json[1]["whole_context"], true);
  EXPECT_TRUE(json[1]["sources"].empty());
}

}  // namespace
}  // namespace sentencekv
