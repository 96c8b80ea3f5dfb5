// Chat templates are programs in a language of their own; the few families that models use are recognised by their markup and written
// as the strings around each turn.
#include "converter/text/vocabulary.h"

namespace runnel::convert {
namespace {

bool has(const std::string& text, const char* what) { return text.find(what) != text.npos; }

}  // namespace

std::optional<Chat> recognise_chat(const VocabSource& s) {
  const std::string& t = s.chat_template;
  Chat chat;
  format::ChatFormatT& f = chat.format;
  f.template_source = t;
  const auto ends_with = [&](const char* piece) {
    const int32_t id = s.find(piece);
    if (id >= 0 && id != s.eos) chat.end_of_turn.push_back(id);
    return id >= 0;
  };
  if (s.kind == TokenizerKind::kLongestMatch && (has(t, "rwkv-world") || (has(t, "User: ") && has(t, "Assistant:"))) && ends_with("\n\n")) {
    chat.name = "RWKV World";
    f.system_prefix = "System: ";
    f.user_prefix = "User: ";
    f.model_prefix = "Assistant:";
    f.system_suffix = f.user_suffix = f.model_suffix = "\n\n";
    return chat;
  }
  if (has(t, "<start_of_turn>") && s.find("<start_of_turn>") >= 0 && ends_with("<end_of_turn>")) {
    chat.name = "Gemma";
    f.user_prefix = "<start_of_turn>user\n";
    f.user_suffix = "<end_of_turn>\n";
    f.model_prefix = "<start_of_turn>model\n";
    f.model_suffix = "<end_of_turn>\n";
    f.system_suffix = "\n\n";
    f.system_in_first_user = true;
    return chat;
  }
  if (has(t, "<|im_start|>") && s.find("<|im_start|>") >= 0 && ends_with("<|im_end|>")) {
    chat.name = "ChatML";
    f.system_prefix = "<|im_start|>system\n";
    f.user_prefix = "<|im_start|>user\n";
    f.model_prefix = "<|im_start|>assistant\n";
    f.system_suffix = f.user_suffix = f.model_suffix = "<|im_end|>\n";
    return chat;
  }
  if (!has(t, "[INST]") || s.eos < 0) return std::nullopt;
  const std::string eos = s.pieces[size_t(s.eos)];
  if (has(t, "<<SYS>>")) {
    chat.name = "Llama 2";
    f.user_prefix = "[INST] ";
    f.user_suffix = " [/INST]";
    // Every turn begins with bos; the first one's comes with the text.
    f.model_suffix = eos + (s.bos >= 0 ? s.pieces[size_t(s.bos)] : "");
    f.system_prefix = "<<SYS>>\n";
    f.system_suffix = "\n<</SYS>>\n\n";
    f.system_in_first_user = true;
    return chat;
  }
  chat.name = "Mistral";
  // Where [INST] is a piece of its own, each stretch of text after one gets the space prefix of the tokenizer, not of the template.
  const bool piece = s.find("[INST]") >= 0;
  f.user_prefix = piece ? "[INST]" : "[INST] ";
  f.user_suffix = piece ? "[/INST]" : " [/INST]";
  f.model_suffix = eos;
  if (has(t, "[SYSTEM_PROMPT]") && s.find("[SYSTEM_PROMPT]") >= 0) {
    f.system_prefix = "[SYSTEM_PROMPT]";
    f.system_suffix = "[/SYSTEM_PROMPT]";
  } else {
    f.system_suffix = "\n\n";
    f.system_in_first_user = true;
  }
  return chat;
}

}  // namespace runnel::convert
