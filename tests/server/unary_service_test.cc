// The RPCs beside Generate.
#include <gmock/gmock.h>

#include "kernels/version.h"
#include "server/generate_service.h"
#include "tests/server/server_fixture.h"

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

class UnaryTest : public ServerFixture {
 protected:
  grpc::Status Tokenize(const v1::TokenizeRequest& request,
                        v1::TokenizeResponse* response) {
    grpc::ClientContext context;
    return stub_->Tokenize(&context, request, response);
  }
  grpc::Status Detokenize(const v1::DetokenizeRequest& request,
                          v1::DetokenizeResponse* response) {
    grpc::ClientContext context;
    return stub_->Detokenize(&context, request, response);
  }
};

TEST_F(UnaryTest, TokenizeGivesIdsAndBytes) {
  v1::TokenizeRequest request;
  request.set_text("é<s>");
  request.set_with_bytes(true);
  request.set_parse_special(true);
  v1::TokenizeResponse response;
  ASSERT_TRUE(Tokenize(request, &response).ok());
  EXPECT_THAT(response.token_ids(),
              ElementsAre(0xC3, 0xA9, ByteTokenizer::kBos));
  EXPECT_THAT(response.token_bytes(), ElementsAre("\xC3", "\xA9", "<s>"));
}

TEST_F(UnaryTest, TokenizeLeavesBytesOutUnlessAsked) {
  v1::TokenizeRequest request;
  request.set_text("a");
  v1::TokenizeResponse response;
  ASSERT_TRUE(Tokenize(request, &response).ok());
  EXPECT_THAT(response.token_ids(), ElementsAre('a'));
  EXPECT_EQ(response.token_bytes_size(), 0);
}

TEST_F(UnaryTest, TokenizeSeesChatAsGenerateDoes) {
  v1::TokenizeRequest request;
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("hi <|im_end|>");
  v1::TokenizeResponse response;
  ASSERT_TRUE(Tokenize(request, &response).ok());
  AnswerHello();
  v1::GenerateRequest generate;
  *generate.mutable_chat() = request.chat();
  ASSERT_TRUE(Generate(generate).status.ok());
  EXPECT_EQ(std::vector<int32_t>(response.token_ids().begin(),
                                 response.token_ids().end()),
            engine_->submitted(0).prompt);
}

TEST_F(UnaryTest, TokenizeRefusesWhatGenerateRefuses) {
  v1::TokenizeRequest request;
  v1::TokenizeResponse response;
  grpc::Status status = Tokenize(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(FieldsOf(status), ElementsAre("input"));
  request.set_text("a");
  request.set_model("other");
  EXPECT_EQ(Tokenize(request, &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(UnaryTest, DetokenizeGivesTextWithReplacementCharacters) {
  v1::DetokenizeRequest request;
  for (const int32_t id : {0x48, 0xC3, 0xA9, ByteTokenizer::kEos, 0xE2, 0x82})
    request.add_token_ids(id);
  v1::DetokenizeResponse response;
  ASSERT_TRUE(Detokenize(request, &response).ok());
  EXPECT_EQ(response.text(), "Hé\uFFFD");
  request.set_render_special(true);
  ASSERT_TRUE(Detokenize(request, &response).ok());
  EXPECT_EQ(response.text(), "Hé</s>\uFFFD");
}

TEST_F(UnaryTest, DetokenizeRefusesIdsOutsideTheVocabulary) {
  v1::DetokenizeRequest request;
  request.add_token_ids(-1);
  v1::DetokenizeResponse response;
  const grpc::Status status = Detokenize(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(FieldsOf(status), ElementsAre("token_ids[0]"));
}

TEST_F(UnaryTest, GetModelDescribesTheModel) {
  grpc::ClientContext context;
  v1::GetModelRequest request;
  v1::GetModelResponse response;
  ASSERT_TRUE(stub_->GetModel(&context, request, &response).ok());
  EXPECT_EQ(response.name(), "fake-model");
  EXPECT_EQ(response.description(), "fake");
  EXPECT_EQ(response.architecture(), "llama");
  EXPECT_EQ(response.vocab_size(), 260);
  EXPECT_EQ(response.context_length(), 1024);
  EXPECT_EQ(response.max_request_tokens(), 1024);
  EXPECT_EQ(response.chat_format(), "chatml");
  EXPECT_THAT(response.kv_policies(), ::testing::Contains("full"));
  EXPECT_EQ(response.default_kv_policy(), "full");
  EXPECT_EQ(response.backend(), "fake backend");
  EXPECT_EQ(response.server_version(), kVersion);
  EXPECT_THAT(
      response.stop_token_ids(),
      UnorderedElementsAre(ByteTokenizer::kEos, ByteTokenizer::kTurnEnd));
}

TEST_F(UnaryTest, GetModelOfAnotherIsNotFound) {
  grpc::ClientContext context;
  v1::GetModelRequest request;
  request.set_model("other");
  v1::GetModelResponse response;
  const grpc::Status status = stub_->GetModel(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(ReasonOf(status), "MODEL_NOT_FOUND");
}

TEST_F(UnaryTest, GetStatsTellsOfEngineAndProcess) {
  engine_->set_stats({.running = 1,
                      .waiting = 2,
                      .waiting_tokens = 3,
                      .pages_total = 10,
                      .pages_free = 6,
                      .pages_cached = 12,
                      .pages_used = 4,
                      .page_tokens = 16,
                      .requests_finished = 5,
                      .prompt_tokens = 7,
                      .generated_tokens = 8,
                      .preemptions = 9,
                      .steps = 11,
                      .prefix_query_tokens = 13,
                      .prefix_hit_tokens = 14,
                      .prefix_evictions = 15,
                      .draining = true});
  grpc::ClientContext context;
  v1::GetStatsResponse response;
  ASSERT_TRUE(stub_->GetStats(&context, {}, &response).ok());
  EXPECT_EQ(response.running_requests(), 1);
  EXPECT_EQ(response.waiting_requests(), 2);
  EXPECT_EQ(response.waiting_tokens(), 3);
  EXPECT_EQ(response.kv_pages_total(), 10);
  EXPECT_EQ(response.kv_pages_free(), 6);
  EXPECT_EQ(response.kv_pages_used(), 4);
  EXPECT_EQ(response.kv_pages_cached(), 12);
  EXPECT_EQ(response.prefix_query_tokens(), 13);
  EXPECT_EQ(response.prefix_hit_tokens(), 14);
  EXPECT_EQ(response.prefix_evictions(), 15);
  EXPECT_EQ(response.page_tokens(), 16);
  EXPECT_EQ(response.requests_finished(), 5);
  EXPECT_EQ(response.prompt_tokens(), 7);
  EXPECT_EQ(response.generated_tokens(), 8);
  EXPECT_EQ(response.preemptions(), 9);
  EXPECT_EQ(response.steps(), 11);
  EXPECT_TRUE(response.draining());
  EXPECT_GE(response.uptime_seconds(), 0);
  EXPECT_GT(response.resident_bytes(), 1 << 20);
  EXPECT_GT(response.threads(), 1);
}

TEST_F(UnaryTest, ResetCacheTellsWhatWasDropped) {
  engine_->DropOnReset(4096);
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "reset-1");
  v1::ResetCacheResponse response;
  ASSERT_TRUE(stub_->ResetCache(&context, {}, &response).ok());
  EXPECT_EQ(response.dropped_tokens(), 4096);
  EXPECT_EQ(context.GetServerInitialMetadata().count("x-request-id"), 1u);
}

TEST_F(UnaryTest, ResetCacheOfAStoppedEngineIsUnavailable) {
  engine_->DropOnReset(absl::UnavailableError("the engine has stopped"));
  grpc::ClientContext context;
  v1::ResetCacheResponse response;
  EXPECT_EQ(stub_->ResetCache(&context, {}, &response).error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

TEST_F(UnaryTest, EchoesTheRequestId) {
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "unary-1");
  v1::GetStatsResponse response;
  ASSERT_TRUE(stub_->GetStats(&context, {}, &response).ok());
  const auto& headers = context.GetServerInitialMetadata();
  ASSERT_EQ(headers.count("x-request-id"), 1u);
  EXPECT_EQ(headers.find("x-request-id")->second, "unary-1");
}

TEST_F(UnaryTest, CancelRefusesAWrongId) {
  grpc::ClientContext context;
  v1::CancelRequest request;
  v1::CancelResponse response;
  const grpc::Status status = stub_->Cancel(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(FieldsOf(status), ElementsAre("request_id"));
}

}  // namespace
}  // namespace sentencekv
