#include "converter/text/unicode.h"

#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/uscript.h>
#include <unicode/ustring.h>

#include <stdexcept>

#include "text/normalizer.h"
#include "text/utf8.h"

namespace runnel::convert {
namespace {

constexpr uint32_t kSyllables = 0xAC00, kSyllablesEnd = 0xD7A4;

const UNormalizer2* normalizer(bool compatibility, bool compose) {
  UErrorCode error = U_ZERO_ERROR;
  const UNormalizer2* n =
      unorm2_getInstance(nullptr, compatibility ? "nfkc" : "nfc", compose ? UNORM2_COMPOSE : UNORM2_DECOMPOSE, &error);
  if (U_FAILURE(error)) throw std::runtime_error(std::string("ICU's normaliser does not open: ") + u_errorName(error));
  return n;
}

std::string from_utf16(const UChar* text, int32_t size) {
  std::string out;
  for (int32_t i = 0; i < size;) {
    UChar32 c;
    U16_NEXT(text, i, size, c);
    append_utf8(out, uint32_t(c));
  }
  return out;
}

struct CasePair {
  uint32_t first, last;
  int32_t step;
};
// Lower case of characters that Unicode 16.0 and 17.0 added; u_tolower of an older ICU leaves them.
constexpr CasePair kNewLower[] = {{0x1C89, 0x1C89, 1},      {0xA7CB, 0xA7CB, 0x264 - 0xA7CB},
                                  {0xA7CC, 0xA7CC, 1},      {0xA7CE, 0xA7CE, 1},
                                  {0xA7D2, 0xA7D2, 1},      {0xA7D4, 0xA7D4, 1},
                                  {0xA7DA, 0xA7DA, 1},      {0xA7DC, 0xA7DC, 0x19B - 0xA7DC},
                                  {0x10D50, 0x10D65, 0x20}, {0x16EA0, 0x16EB8, 27}};

}  // namespace

void append_utf8(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out += char(c);
  } else if (c < 0x800) {
    out += char(0xC0 | c >> 6), out += char(0x80 | (c & 63));
  } else if (c < 0x10000) {
    out += char(0xE0 | c >> 12), out += char(0x80 | (c >> 6 & 63)), out += char(0x80 | (c & 63));
  } else {
    out += char(0xF0 | c >> 18), out += char(0x80 | (c >> 12 & 63)), out += char(0x80 | (c >> 6 & 63)),
        out += char(0x80 | (c & 63));
  }
}

std::string utf8_of(uint32_t c) {
  std::string out;
  append_utf8(out, c);
  return out;
}

std::vector<uint32_t> code_points_of(std::string_view text) {
  std::vector<uint32_t> out;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(reinterpret_cast<const uint8_t*>(text.data()) + i, text.size() - i);
    out.push_back(c.value);
    i += c.length;
  }
  return out;
}

bool is_surrogate(uint32_t c) { return c >= 0xD800 && c <= 0xDFFF; }

bool is_assigned_in(uint32_t c, int version) {
  UVersionInfo age;
  u_charAge(UChar32(c), age);
  return age[0] != 0 && age[0] <= version;
}

FormTables form_tables(bool compose, bool compatibility, int version) {
  FormTables t;
  const UNormalizer2 *decomposer = normalizer(compatibility, false), *canonical = normalizer(false, true);
  const UProperty quick = compatibility ? UCHAR_NFKC_QUICK_CHECK : UCHAR_NFC_QUICK_CHECK;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (is_surrogate(c) || !is_assigned_in(c, version)) continue;
    const uint8_t combining = u_getCombiningClass(UChar32(c));
    const bool syllable = c >= kSyllables && c < kSyllablesEnd;
    UChar buffer[64];
    UErrorCode error = U_ZERO_ERROR;
    const int32_t size = unorm2_getDecomposition(decomposer, UChar32(c), buffer, 64, &error);
    if (U_FAILURE(error)) throw std::runtime_error("ICU has no decomposition for a character that it says has one");
    if (size >= 0 && !syllable) t.decompositions[c] = from_utf16(buffer, size);
    const bool changes = compose ? u_getIntPropertyValue(UChar32(c), quick) != UNORM_YES : size >= 0;
    if (combining) t.classes[c] = combining;
    else if (changes) t.classes[c] = kNormStarter;
    if (!compose || syllable) continue;
    error = U_ZERO_ERROR;
    const int32_t raw = unorm2_getRawDecomposition(canonical, UChar32(c), buffer, 64, &error);
    if (U_FAILURE(error) || raw < 0) continue;
    const std::vector<uint32_t> parts = code_points_of(from_utf16(buffer, raw));
    if (parts.size() == 2 && unorm2_composePair(canonical, UChar32(parts[0]), UChar32(parts[1])) == UChar32(c))
      t.pairs[{parts[0], parts[1]}] = c;
  }
  return t;
}

std::string lower_case(uint32_t c) {
  for (const CasePair& p : kNewLower)
    if (c >= p.first && c <= p.last) return utf8_of(uint32_t(int32_t(c) + p.step));
  if (c == 0x130) return "i\xCC\x87";
  return utf8_of(uint32_t(u_tolower(UChar32(c))));
}

std::map<uint32_t, uint8_t> cluster_classes() {
  static const std::map<int32_t, Cluster> kBreaks = {{U_GCB_CONTROL, Cluster::kControl},
                                                     {U_GCB_CR, Cluster::kCr},
                                                     {U_GCB_LF, Cluster::kLf},
                                                     {U_GCB_EXTEND, Cluster::kExtend},
                                                     {U_GCB_ZWJ, Cluster::kJoiner},
                                                     {U_GCB_SPACING_MARK, Cluster::kSpacing},
                                                     {U_GCB_PREPEND, Cluster::kPrepend},
                                                     {U_GCB_L, Cluster::kL},
                                                     {U_GCB_V, Cluster::kV},
                                                     {U_GCB_T, Cluster::kT},
                                                     {U_GCB_LV, Cluster::kLv},
                                                     {U_GCB_LVT, Cluster::kLvt},
                                                     {U_GCB_REGIONAL_INDICATOR, Cluster::kRegional}};
  std::map<uint32_t, uint8_t> classes;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (is_surrogate(c)) continue;
    const auto at = kBreaks.find(u_getIntPropertyValue(UChar32(c), UCHAR_GRAPHEME_CLUSTER_BREAK));
    Cluster cluster = at == kBreaks.end() ? Cluster::kOther : at->second;
    if (cluster == Cluster::kOther && u_hasBinaryProperty(UChar32(c), UCHAR_EXTENDED_PICTOGRAPHIC))
      cluster = Cluster::kPicture;
    UErrorCode error = U_ZERO_ERROR;
    const UScriptCode script = uscript_getScript(UChar32(c), &error);
    // The scripts whose consonants a virama joins, by Indic_Conjunct_Break.
    if (script == USCRIPT_BENGALI || script == USCRIPT_DEVANAGARI || script == USCRIPT_GUJARATI ||
        script == USCRIPT_MALAYALAM || script == USCRIPT_ORIYA || script == USCRIPT_TELUGU) {
      const int32_t syllabic = u_getIntPropertyValue(UChar32(c), UCHAR_INDIC_SYLLABIC_CATEGORY);
      if (syllabic == U_INSC_VIRAMA) cluster = Cluster::kLinker;
      if (syllabic == U_INSC_CONSONANT) cluster = Cluster::kConsonant;
    }
    if (cluster != Cluster::kOther) classes[c] = uint8_t(cluster);
  }
  return classes;
}

std::string old_punctuation() {
  const auto has = [](uint32_t c) {
    const bool was = c == 0x166D || c == 0x111C9;  // until later versions
    return was || ((U_MASK(u_charType(UChar32(c))) & U_GC_P_MASK) && is_assigned_in(c, 8));
  };
  std::string out;
  for (uint32_t c = 0x80; c < 0x110000; ++c) {
    if (!has(c)) continue;
    const uint32_t first = c;
    while (has(c + 1)) ++c;
    out += utf8_of(first);
    if (c > first) out += "-" + utf8_of(c);
  }
  return out;
}

}  // namespace runnel::convert
