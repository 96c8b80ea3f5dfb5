// Tables of characters in a normaliser's tensor, and Unicode's normal forms by them.
#pragma once

#include <cstring>

#include "text/normalizer.h"

namespace runnel {

struct StringView {
  const uint8_t* data;
  size_t size;
};

struct CharMap {
  const uint8_t* ascii = nullptr;
  const uint16_t* page_of = nullptr;
  const uint32_t* entries = nullptr;
  const uint32_t* ends = nullptr;
  const uint8_t* text = nullptr;
  uint32_t page_count = 0, string_count = 0;
  size_t text_size = 0;

  bool find(uint32_t c, StringView* to) const {
    const uint32_t page = page_of[(c / kMapPage) % kMapPages];
    const uint32_t entry = page < page_count ? entries[size_t(page) * kMapPage + c % kMapPage] : 0;
    if (entry == 0 || entry > string_count) return false;
    const uint32_t begin = ends[entry - 1], end = ends[entry];
    if (begin > end || end > text_size) return false;
    *to = {text + begin, end - begin};
    return true;
  }
};
bool map_open(const uint8_t* tables, size_t size, uint32_t offset, CharMap* out);

struct ClassTable {
  const uint16_t* page_of = nullptr;
  const uint8_t* pages = nullptr;
  uint32_t page_count = 0;

  uint8_t of(uint32_t c) const {
    const uint32_t page = page_of[(c / kMapPage) % kMapPages];
    return page < page_count ? pages[size_t(page) * kMapPage + c % kMapPage] : 0;
  }
};
bool class_table_open(const uint8_t* tables, size_t size, uint32_t offset, uint32_t page_count, ClassTable* out);

struct NormalForm {
  CharMap decompositions;
  ClassTable classes;
  const NormPair* pairs = nullptr;
  uint32_t pair_count = 0;
  bool compose = false;
};
bool form_open(const uint8_t* tables, size_t size, const NormStep& step, NormalForm* out);

// Appends the text's form to `out`, unless the text has it already: then changed stays false.
Status normal_form(const NormalForm& form, const uint8_t* text, size_t size, Vec<uint64_t>* marks, Vec<uint8_t>* out,
                   bool* changed);

}  // namespace runnel
