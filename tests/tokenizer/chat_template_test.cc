// Recognising templates. The sources are short imitations that contain what
// the families' templates are recognised by.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tokenizer/chat_format.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

struct Case {
  std::string source;
  ChatFormat format;
  std::string default_system = "";
  std::string preamble = "";
};

TEST(ChatTemplate, IsRecognisedByWhatItContains) {
  const Case cases[] = {
      {"", ChatFormat::kPlain},
      {" \n\t", ChatFormat::kPlain},
      {"{{'<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n'}}",
       ChatFormat::kChatMl},
      {"{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}"
       "{{'<|im_start|>' + m.role}}",
       ChatFormat::kChatMl, "You help."},
      {"{{- \"<|im_start|>system\\nIt\\'s \\\"me\\\".\\n\\tOk<|im_end|>\\n\"}}",
       ChatFormat::kChatMl, "It's \"me\".\n\tOk"},
      {"{{'<|im_start|>system\\n' + text + '<|im_end|>\\n'}}"
       "{{'<|im_start|>system\\nDefault<|im_end|>\\n'}}",
       ChatFormat::kChatMl, "Default"},
      {"<|im_start|>system\n{{ text }}<|im_end|>\n", ChatFormat::kChatMl},
      {"<|im_start|>system\nRaw<|im_end|>\n", ChatFormat::kChatMl, "Raw"},
      {"<|im_start|>system<|im_end|>", ChatFormat::kChatMl},
      {"<|im_end|><|im_start|>system\\nnever closed", ChatFormat::kChatMl},
      {"{{ bos_token + '[INST] ' }}'<<SYS>>\\n' ' [/INST]'",
       ChatFormat::kLlama2},
      {"{{ '[INST] ' + m.content + ' [/INST]' }}", ChatFormat::kMistral},
      {"'<|start_header_id|>' '<|end_header_id|>\\n\\n' '<|eot_id|>'",
       ChatFormat::kLlama3},
      {"{%- set date_string = \"26 Jul 2024\" %}<|start_header_id|>"
       "<|end_header_id|>{{- \"Cutting Knowledge Date: December 2023\\n\" }}"
       "<|eot_id|>",
       ChatFormat::kLlama3, "",
       "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"},
      {"{{ '<|user|>\\n' + m.content + eos_token }}'<|assistant|>'",
       ChatFormat::kZephyr},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.source);
    auto style = RecogniseChatTemplate(c.source);
    ASSERT_TRUE(style.ok()) << style.status();
    EXPECT_EQ(Name(style->format), Name(c.format));
    EXPECT_EQ(style->default_system, c.default_system);
    EXPECT_EQ(style->system_preamble, c.preamble);
  }
}

TEST(ChatTemplate, UnknownOnesNameTheFlag) {
  for (const char* source :
       {"{{ messages }}", "### Instruction:", "[INST]x[/INST]",
        "<|user|>\\n<|end|><|assistant|>eos_token", "<|im_start|>"}) {
    auto style = RecogniseChatTemplate(source);
    ASSERT_EQ(style.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(
        std::string(style.status().message()),
        HasSubstr("--chat_format (plain, chatml, llama2, llama3, zephyr, "
                  "mistral)"));
  }
}

}  // namespace
}  // namespace sentencekv
