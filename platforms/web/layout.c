/* Where the fields of runnel.h's structs lie, for JavaScript, which reads and writes them by name. The compiler fills in
 * the numbers; a field or constant that the header does not have is an error here. */
#include <runnel/runnel.h>

struct row {
  const char* type;  /* struct or enumeration */
  const char* field; /* "": offset is the size of the struct */
  int32_t offset;    /* of a constant its value */
  int32_t kind;      /* i, l: integers of 32 and 64 bits; f: float; s: text; p: size, pointer or array; c: constant */
};

#define KIND(x) \
  _Generic((x), int32_t : 'i', int64_t : 'l', uint64_t : 'l', float : 'f', const char* : 's', default : 'p')
#define S(type) {#type, "", sizeof(type), 0},
#define F(type, field) {#type, #field, offsetof(type, field), KIND(((type*)0)->field)},
#define V(type) S(type) F(type, struct_size)
#define C(type, name) {#type, #name, name, 'c'},

static const struct row rows[] = {
#include "layout.inc"
    {0, 0, 0, 0}};

const struct row* web_layout(void) {
  return rows;
}
