// sentencekv chat: history, commands, cancelling.
#include "server/client/chat_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/client/client_run.h"
#include "tests/server/client/fake_service.h"

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

ClientRun Chat(const FakeService& server, const std::string& input,
               std::vector<std::string> flags = {}, bool interactive = false,
               Interrupt* interrupt = nullptr) {
  flags.insert(flags.begin(), {"chat", "--server", server.address()});
  return RunClientWith(std::move(flags), input, interactive, interrupt);
}

// "role: content" of each message of a request's chat.
std::vector<std::string> History(const v1::GenerateRequest& request) {
  std::vector<std::string> history;
  for (const auto& message : request.chat().messages()) {
    history.push_back(message.role() + ": " + message.content());
  }
  return history;
}

TEST(ChatSession, KeepsTheHistory) {
  const FakeService server(HelloWorld());
  const ClientRun run = Chat(server, "one\n\n  two  \n", {"--system", "S"});
  EXPECT_EQ(run.code, ClientExitCode::kOk);
  EXPECT_EQ(run.out, "Hello world\nHello world\n");
  const auto requests = server.generate_requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_THAT(History(requests[0]), ElementsAre("system: S", "user: one"));
  EXPECT_THAT(History(requests[1]),
              ElementsAre("system: S", "user: one", "assistant: Hello world",
                          "user: two"));
}

TEST(ChatSession, ResetAndSystemBeginAnew) {
  const FakeService server(HelloWorld());
  Chat(server, "one\n/reset\ntwo\n/system Be kind \nthree\n/system\nfour\n");
  const auto requests = server.generate_requests();
  ASSERT_EQ(requests.size(), 4u);
  EXPECT_THAT(History(requests[1]), ElementsAre("user: two"));
  EXPECT_THAT(History(requests[2]),
              ElementsAre("system: Be kind", "user: three"));
  EXPECT_THAT(History(requests[3]), ElementsAre("user: four"));
}

TEST(ChatSession, QuitEndsAndUnknownCommandsAreNotSent) {
  const FakeService server(HelloWorld());
  const ClientRun run = Chat(server, "/help\n/nonsense\n/quit\nnever sent\n");
  EXPECT_EQ(run.code, ClientExitCode::kOk);
  EXPECT_THAT(run.out, HasSubstr("/system TEXT"));
  EXPECT_THAT(run.out, HasSubstr("no such command: /nonsense"));
  EXPECT_THAT(server.generate_requests(), IsEmpty());
}

TEST(ChatSession, PromptsOnlyAPerson) {
  const FakeService server(HelloWorld());
  EXPECT_THAT(Chat(server, "a\n").out, Not(HasSubstr(">")));
  EXPECT_THAT(Chat(server, "a\n", {}, /*interactive=*/true).out,
              HasSubstr("> Hello world\n> "));
}

TEST(ChatSession, SendsItsOptionsWithEachMessage) {
  const FakeService server(HelloWorld());
  Chat(server, "a\nb\n",
       {"--temperature", "0", "--max-tokens", "5", "--parse-special"});
  for (const auto& request : server.generate_requests()) {
    EXPECT_EQ(request.sampling().temperature(), 0.0f);
    EXPECT_EQ(request.stop().max_tokens(), 5);
    EXPECT_TRUE(request.parse_special());
  }
}

TEST(ChatSession, CancelledAnswerIsKeptAndTheProgramGoesOn) {
  Interrupt interrupt;
  FakeScript script = HelloWorld();
  script.messages.pop_back();
  script.hang_until_cancelled = true;
  script.on_written = [&](const v1::GenerateRequest&) { interrupt.Trigger(); };
  const FakeService server(script);
  const ClientRun run = Chat(server, "one\ntwo\n", {}, false, &interrupt);
  EXPECT_EQ(run.code, ClientExitCode::kOk) << run.err;
  EXPECT_THAT(run.out, HasSubstr("(cancelled)"));
  const auto requests = server.generate_requests();
  ASSERT_EQ(requests.size(), 2u);
  // How much of the text came before the cancellation is a matter of luck.
  const auto history = History(requests[1]);
  ASSERT_EQ(history.size(), 3u);
  EXPECT_EQ(history[0], "user: one");
  EXPECT_THAT(history[1], testing::StartsWith("assistant: "));
  EXPECT_EQ(history[2], "user: two");
}

TEST(ChatSession, FailedMessageIsForgottenWhenAPersonGoesOn) {
  FakeScript script;
  script.status = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
  const FakeService server(script);
  const ClientRun person = Chat(server, "one\ntwo\n", {}, true);
  EXPECT_EQ(person.code, ClientExitCode::kOk);
  EXPECT_THAT(person.err, HasSubstr("sentencekv: RESOURCE_EXHAUSTED: full"));
  const auto requests = server.generate_requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_THAT(History(requests[1]), ElementsAre("user: two"));
}

TEST(ChatSession, PipedInputEndsWithTheFirstError) {
  FakeScript script;
  script.status = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
  const FakeService server(script);
  EXPECT_EQ(Chat(server, "one\ntwo\n").code, ClientExitCode::kRefused);
  EXPECT_EQ(server.generate_requests().size(), 1u);
}

TEST(ChatSession, WrongFlagsAreUsage) {
  const FakeService server(HelloWorld());
  EXPECT_EQ(Chat(server, "", {"--logit-bias", "x"}).code,
            ClientExitCode::kUsage);
}

TEST(ChatSession, StatsFollowEachAnswer) {
  const FakeService server(HelloWorld());
  EXPECT_THAT(Chat(server, "a\n", {"--stats"}).err,
              HasSubstr("2 generated in"));
}

}  // namespace
}  // namespace sentencekv
