#include "engine/answer.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/byte_tokenizer.h"

namespace sentencekv {
namespace {

constexpr int32_t kEos = ByteTokenizer::kEos;

struct Outcome {
  std::string text;
  std::vector<std::string> increments;
  size_t num_tokens = 0;
  std::optional<Finish> finish;
};

// Feeds the bytes of `text`, then `last_id` when it is not negative, until the
// answer ends.
Outcome Feed(const GenerateRequest& request, const std::string& text,
             int32_t last_id = -1, int64_t max_generated = 1000) {
  const ByteTokenizer tokenizer;
  Answer answer(request, tokenizer, max_generated);
  Outcome outcome;
  std::vector<int32_t> ids;
  for (const char byte : text) ids.push_back(static_cast<unsigned char>(byte));
  if (last_id >= 0) ids.push_back(last_id);
  StreamEvent last;
  for (const int32_t id : ids) {
    StreamEvent event;
    outcome.finish = answer.Append({.id = id}, &event);
    outcome.num_tokens += event.tokens.size();
    if (outcome.finish.has_value()) {
      last = std::move(event);
      break;
    }
    outcome.increments.push_back(event.text);
  }
  answer.Close(&last);
  outcome.increments.push_back(last.text);
  for (const std::string& increment : outcome.increments) {
    outcome.text += increment;
  }
  return outcome;
}

TEST(Answer, EndsAtAStopTokenThatAddsNoText) {
  const Outcome outcome = Feed({}, "hi", kEos);
  EXPECT_EQ(outcome.text, "hi");
  EXPECT_EQ(outcome.num_tokens, 3u);
  EXPECT_EQ(outcome.finish->reason, FinishReason::kStop);
  EXPECT_EQ(outcome.finish->stop_token_id, kEos);
}

TEST(Answer, EndsAtAStopTokenOfTheRequest) {
  GenerateRequest request;
  request.stop.stop_token_ids = {'x'};
  const Outcome outcome = Feed(request, "axb");
  EXPECT_EQ(outcome.text, "a");
  EXPECT_EQ(outcome.finish->stop_token_id, 'x');
}

TEST(Answer, GoesOnAtAnIgnoredEos) {
  GenerateRequest request;
  request.stop.ignore_eos = true;
  const Outcome outcome = Feed(request, "hi", kEos);
  EXPECT_FALSE(outcome.finish.has_value());
  request.stop.stop_token_ids = {kEos};
  EXPECT_TRUE(Feed(request, "hi", kEos).finish.has_value())
      << "the request's own stop ids are not ignored";
}

TEST(Answer, TrimsAtAStopStringAndReportsAllTokens) {
  GenerateRequest request;
  request.stop.stop_strings = {"END"};
  Outcome outcome = Feed(request, "abENDcd");
  EXPECT_EQ(outcome.text, "ab");
  EXPECT_EQ(outcome.num_tokens, 5u);
  EXPECT_EQ(outcome.finish->reason, FinishReason::kStop);
  EXPECT_EQ(outcome.finish->stop_string, "END");
  request.stop.include_stop_string = true;
  outcome = Feed(request, "abENDcd");
  EXPECT_EQ(outcome.text, "abEND");
}

TEST(Answer, LetsHeldTextOutAtTheEnd) {
  GenerateRequest request;
  request.stop.stop_strings = {"END"};
  const Outcome outcome = Feed(request, "abEN", kEos);
  EXPECT_EQ(outcome.text, "abEN");
  EXPECT_EQ(outcome.increments[1], "b");
  EXPECT_EQ(outcome.increments[2], "");
}

TEST(Answer, EndsAtItsLengthUnlessItStopsThere) {
  EXPECT_EQ(Feed({}, "abc", -1, 2).finish->reason, FinishReason::kLength);
  EXPECT_EQ(Feed({}, "abc", -1, 2).text, "ab");
  EXPECT_EQ(Feed({}, "ab", kEos, 3).finish->reason, FinishReason::kStop);
  GenerateRequest request;
  request.stop.stop_strings = {"b"};
  EXPECT_EQ(Feed(request, "ab", -1, 2).finish->reason, FinishReason::kStop);
}

TEST(Answer, NeverSplitsACodePoint) {
  const Outcome outcome = Feed({}, "é€", kEos);
  const std::vector<std::string> expected = {"", "é", "", "", "€", ""};
  EXPECT_EQ(outcome.increments, expected);
  // An incomplete one at the end is replaced.
  EXPECT_EQ(Feed({}, "a\xe2\x82", kEos).text, "a\ufffd");
}

TEST(Answer, ForbidsStopTokensBeforeMinTokens) {
  const ByteTokenizer tokenizer;
  GenerateRequest request;
  request.stop.min_tokens = 2;
  request.stop.stop_token_ids = {5};
  Answer answer(request, tokenizer, 10);
  StreamEvent event;
  EXPECT_EQ(answer.forbidden().size(), 1 + tokenizer.stop_ids().size());
  answer.Append({.id = 'a'}, &event);
  EXPECT_FALSE(answer.forbidden().empty());
  answer.Append({.id = 'b'}, &event);
  EXPECT_TRUE(answer.forbidden().empty());
  EXPECT_EQ(answer.num_generated(), 2);
}

TEST(Answer, IgnoredEosIsNotForbiddenEither) {
  const ByteTokenizer tokenizer;
  GenerateRequest request;
  request.stop.min_tokens = 2;
  request.stop.ignore_eos = true;
  EXPECT_TRUE(Answer(request, tokenizer, 10).forbidden().empty());
}

TEST(Answer, LooksForStopStringsFromMinTokensOn) {
  GenerateRequest request;
  request.stop.stop_strings = {"b", "de"};
  request.stop.min_tokens = 4;
  // "b" is token 2; "de" begins with token 4 and ends after it.
  Outcome outcome = Feed(request, "abcdef");
  EXPECT_EQ(outcome.text, "abc");
  EXPECT_EQ(outcome.finish->stop_string, "de");
  request.stop.min_tokens = 5;
  outcome = Feed(request, "abcdef");
  EXPECT_EQ(outcome.text, "abcdef") << "d was out before stops were looked for";
}

TEST(Answer, EchoesThePromptFirst) {
  GenerateRequest request;
  request.prompt = {'H', 'i', 0xc3};  // the first byte of é
  request.output.echo = true;
  request.stop.stop_strings = {"i"};  // not looked for in the prompt
  const Outcome outcome = Feed(request, "\xa9!", kEos);
  EXPECT_EQ(outcome.text, "Hié!");
  EXPECT_EQ(outcome.increments[0], "Hié");
}

TEST(Answer, RendersControlTokensWhenAsked) {
  GenerateRequest request;
  request.stop.ignore_eos = true;
  EXPECT_EQ(Feed(request, "a", kEos).text, "a");
  request.output.render_special = true;
  EXPECT_EQ(Feed(request, "a", kEos).text, "a</s>");
}

}  // namespace
}  // namespace sentencekv
