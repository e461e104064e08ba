// Vocabularies of tiny models: every byte has a token, so that any text can be
// encoded, and a few merges make words.
#include <set>
#include <string>
#include <vector>

#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

constexpr const char* kMergedWords[] = {
    "the", "and", "is", "of", "to", "in", "one", "was", "she", "day",
};

void AppendUtf8(std::string* text, uint32_t code_point) {
  if (code_point < 0x80) {
    text->push_back(static_cast<char>(code_point));
  } else {
    text->push_back(static_cast<char>(0xc0 | (code_point >> 6)));
    text->push_back(static_cast<char>(0x80 | (code_point & 0x3f)));
  }
}

// The character by which byte-level BPE writes a byte: printable Latin-1 stands
// for itself, every other byte for the next code point from U+0100.
std::string ByteCharacter(int byte) {
  int next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool is_printable = (b >= 0x21 && b <= 0x7e) ||
                              (b >= 0xa1 && b <= 0xac) ||
                              (b >= 0xae && b <= 0xff);
    const int code_point = is_printable ? b : next++;
    if (b == byte) {
      std::string text;
      AppendUtf8(&text, static_cast<uint32_t>(code_point));
      return text;
    }
  }
  return "";
}

}  // namespace

Vocabulary MakeTinyBpeVocabulary() {
  Vocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = "smollm";
  vocabulary.tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  vocabulary.token_types = {3, 3, 3};
  const auto add = [&vocabulary](const std::string& token) {
    vocabulary.tokens.push_back(token);
    vocabulary.token_types.push_back(1);
  };
  for (int byte = 0; byte < 256; ++byte) add(ByteCharacter(byte));
  // Each word grows by one character a merge: t h, th e, then with its space.
  std::set<std::string> known(vocabulary.tokens.begin(),
                              vocabulary.tokens.end());
  const auto merge = [&](const std::string& left, const std::string& right) {
    if (!known.insert(left + right).second) return;
    vocabulary.merges.push_back(left + " " + right);
    add(left + right);
  };
  const std::string space = ByteCharacter(' ');
  for (const std::string word : kMergedWords) {
    for (size_t size = 1; size < word.size(); ++size) {
      merge(word.substr(0, size), word.substr(size, 1));
    }
    merge(space, word);
  }
  vocabulary.bos_id = 1;
  vocabulary.eos_id = 2;
  vocabulary.unknown_id = 0;
  vocabulary.add_bos = false;
  vocabulary.chat_template =
      "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' "
      "+ message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif "
      "%}";
  return vocabulary;
}

Vocabulary MakeLettersVocabulary() {
  Vocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = "gpt-2";
  vocabulary.tokens = {"<|end|>", "a", "b", "c", "d", "ab", "cd", "abcd"};
  vocabulary.token_types = {3, 1, 1, 1, 1, 1, 1, 1};
  vocabulary.merges = {"a b", "c d", "ab cd"};
  vocabulary.bos_id = vocabulary.eos_id = vocabulary.unknown_id = 0;
  vocabulary.add_bos = false;
  return vocabulary;
}

Vocabulary MakeTinyLlamaVocabulary() {
  Vocabulary vocabulary;
  vocabulary.model = "llama";
  const auto add = [&vocabulary](const std::string& token, int32_t type,
                                 float score) {
    vocabulary.tokens.push_back(token);
    vocabulary.token_types.push_back(type);
    vocabulary.scores.push_back(score);
  };
  add("<unk>", 2, 0);
  add("<s>", 3, 0);
  add("</s>", 3, 0);
  for (int byte = 0; byte < 256; ++byte) {
    constexpr char kHex[] = "0123456789ABCDEF";
    add(std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">", 6, 0);
  }
  // Scores fall with the order: earlier pieces are merged first.
  float score = 0;
  std::set<std::string> known;
  const auto add_piece = [&](const std::string& piece) {
    if (known.insert(piece).second) add(piece, 1, --score);
  };
  const std::string space = "\xe2\x96\x81";  // U+2581
  for (const std::string word : kMergedWords) {
    for (size_t size = 2; size <= word.size(); ++size) {
      add_piece(word.substr(0, size));
    }
    add_piece(space + word);
  }
  add_piece(space);
  for (char c = 'a'; c <= 'z'; ++c) add_piece(std::string(1, c));
  for (const char c : {'.', ',', '!', '?', 'T', 'O', '\''}) {
    add_piece(std::string(1, c));
  }
  vocabulary.bos_id = 1;
  vocabulary.eos_id = 2;
  vocabulary.unknown_id = 0;
  vocabulary.add_bos = true;
  return vocabulary;
}

}  // namespace sentencekv
