#include "tests/tokenizer/tiny_vocabularies.h"

#include <algorithm>
#include <set>

#include "tokenizer/utf8.h"
#include "tokenizer/vocabulary_tokenizer.h"

namespace sentencekv {
namespace {

// Replaces the "_" that tests write for a space.
std::string WithSpaces(std::string text, std::string_view space) {
  std::string replaced;
  for (char c : text) {
    if (c == '_') {
      replaced += space;
    } else {
      replaced.push_back(c);
    }
  }
  return replaced;
}

}  // namespace

std::string ByteCharacter(uint8_t byte) {
  auto is_printable = [](uint32_t b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  };
  if (is_printable(byte)) return EncodeUtf8(byte);
  uint32_t place = 0;
  for (uint32_t b = 0; b < byte; ++b) place += !is_printable(b);
  return EncodeUtf8(256 + place);
}

std::string ByteLevelText(std::string_view text) {
  std::string written;
  for (char byte : text) written += ByteCharacter(static_cast<uint8_t>(byte));
  return written;
}

Vocabulary ByteLevelVocabulary(std::string_view pre,
                               const std::vector<std::string>& merges) {
  Vocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = pre;
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.tokens.push_back(ByteCharacter(static_cast<uint8_t>(byte)));
  }
  for (const std::string& merge : merges) {
    size_t space = merge.find(' ');
    auto written = [](std::string_view part) {
      return ByteLevelText(WithSpaces(std::string(part), " "));
    };
    std::string left = written(std::string_view(merge).substr(0, space));
    std::string right = written(std::string_view(merge).substr(space + 1));
    vocabulary.merges.push_back(left + " " + right);
    vocabulary.tokens.push_back(left + right);
  }
  vocabulary.token_types.assign(vocabulary.tokens.size(), kNormalToken);
  for (const char* control : {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}) {
    vocabulary.tokens.push_back(control);
    vocabulary.token_types.push_back(kControlToken);
  }
  int32_t count = static_cast<int32_t>(vocabulary.tokens.size());
  vocabulary.bos_id = count - 1;
  vocabulary.eos_id = count - 2;
  return vocabulary;
}

std::vector<std::string> MergesForWords(const std::vector<std::string>& words) {
  std::vector<std::string> merges;
  std::set<std::string> known;
  for (const std::string& word : words) {
    for (size_t size = 2; size <= word.size(); ++size) {
      if (!known.insert(word.substr(0, size)).second) continue;
      merges.push_back(word.substr(0, size - 1) + " " + word[size - 1]);
    }
  }
  return merges;
}

Vocabulary SentencePieceVocabulary(const std::vector<std::string>& pieces,
                                   bool byte_fallback) {
  Vocabulary vocabulary;
  vocabulary.model = "llama";
  auto add = [&vocabulary](std::string token, int32_t type, float score) {
    vocabulary.tokens.push_back(std::move(token));
    vocabulary.token_types.push_back(type);
    vocabulary.scores.push_back(score);
  };
  add("<unk>", kUnknownToken, 0);
  add("<s>", kControlToken, 0);
  add("</s>", kControlToken, 0);
  for (int byte = 0; byte_fallback && byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof(name), "<0x%02X>", byte);
    add(name, kByteToken, 0);
  }
  float score = 0;
  for (const std::string& piece : pieces) {
    add(WithSpaces(piece, "\xE2\x96\x81"), kNormalToken, score -= 1);
  }
  vocabulary.bos_id = 1;
  vocabulary.eos_id = 2;
  vocabulary.unknown_id = 0;
  return vocabulary;
}

std::string RandomText(std::mt19937& random, size_t num_code_points) {
  std::string text;
  for (size_t i = 0; i < num_code_points; ++i) {
    switch (random() % 8) {
      case 0:
        text += EncodeUtf8(0x80 + random() % 0x780);
        break;
      case 1:
        text += EncodeUtf8(0x800 + random() % 0xD000);
        break;
      case 2:
        text += EncodeUtf8(0x10000 + random() % 0x100000);
        break;
      case 3:
        text += " \n\t'"[random() % 4];
        break;
      default:
        text.push_back(static_cast<char>(random() % 0x80));
    }
  }
  return text;
}

std::string RandomBytes(std::mt19937& random, size_t size) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

std::vector<NamedText> HostileTexts(size_t size) {
  std::mt19937 random(7);
  std::vector<NamedText> texts;
  auto repeat = [&texts, size](std::string name, std::string_view unit) {
    std::string text;
    while (text.size() < size) text += unit;
    text.resize(size);
    texts.push_back({std::move(name), std::move(text)});
  };
  repeat("letters a", "a");
  repeat("spaces", " ");
  repeat("newlines", "\n");
  repeat("digits", "7");
  repeat("alternating", "a b");
  repeat("space and newline", " \n");
  repeat("apostrophes", "'");
  repeat("stray bytes", "\x80");
  repeat("cut sequences", "\xF0\x9F");
  repeat("beginnings of control tokens", "<|im_start");
  repeat("no-break spaces", "\xC2\xA0");
  texts.push_back({"random bytes", RandomBytes(random, size)});
  std::string letters(size, 'a');
  for (char& c : letters) c = static_cast<char>('a' + random() % 26);
  texts.push_back({"random letters", std::move(letters)});
  return texts;
}

}  // namespace sentencekv
