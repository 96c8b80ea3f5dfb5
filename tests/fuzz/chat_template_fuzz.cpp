// Any text as a chat template, and any program as what it was compiled to: both end, with a message or with a text
// whose origins are whole. Input: the first byte's low bit tells which; a program is that of a good template, changed
// at places given by pairs of bytes.
#include <cstdlib>
#include <exception>
#include <string>

#include "converter/text/jinja.h"
#include "text/chat.h"

using namespace runnel;

namespace {

constexpr const char* kGood =
    "{% macro f(a, b='x') %}{{ a ~ b | upper }}{% endmacro %}{% set ns = namespace(n=0, s='') %}{% for m in messages "
    "if m.role != 'tool' %}{% set x %}{{ f(m.content | trim) }}{% endset %}"
    "{% set ns.n = ns.n + loop.index %}{% set ns.s = ns.s + x[::-1] %}{{ [x, ns.n, m.content.split(' ')[0]] | join(', "
    "') if loop.first and not loop.last else m.content.replace('e', x) }}"
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('|') | tojson }}{% endfor "
    "%}{% for k, v in {'a': 1, 'b': [2, none]}.items() %}{{ k ~ v }}{% else %}{{ ns.s }}{% endfor %}";

void render(const format::ChatProgramT& program) {
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(format::ChatProgram::Pack(builder, &program));
  const ChatMessage messages[] = {{"system", "Be brief."},
                                  {"user", " Hello \xE4\xBD\xA0 \xFF there "},
                                  {"assistant", "Hi\nyou"},
                                  {"user", "one two  three"}};
  Conversation c;
  c.messages = messages;
  c.count = 4;
  c.now = 1;
  const ChatTokens tokens{chat::Value::string("<s>", 3), chat::Value::string("</s>", 4), {}};
  chat::TextBuilder out;
  const Status s = render_chat(*flatbuffers::GetRoot<format::ChatProgram>(builder.GetBufferPointer()), tokens, c, &out);
  if (!s.is_ok() && !*s.message()) std::abort();
  for (size_t i = 0; i < out.size(); ++i)
    if (out.tags()[i] > 4) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  try {
    if (data[0] & 1) {
      render(convert::compile_template(std::string(reinterpret_cast<const char*>(data) + 1, size - 1)).program);
      return 0;
    }
    static const format::ChatProgramT good = convert::compile_template(kGood).program;
    format::ChatProgramT program = good;
    for (size_t at = 1; at + 4 < size; at += 5) {
      uint32_t& code = program.code[(data[at] | size_t(data[at + 1]) << 8) % program.code.size()];
      code = data[at + 2] | uint32_t(data[at + 3]) << 8 | uint32_t(data[at + 4]) << 24;
    }
    render(program);
  } catch (const std::runtime_error&) {
  }
  return 0;
}
